"""Other programs may run on the machine: no example has a time limit."""

from hypothesis import settings

settings.register_profile("analysis", deadline=None, max_examples=40)
settings.load_profile("analysis")
