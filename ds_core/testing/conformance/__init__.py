"""One suite for each kind; read `checks.py`, `subject.py` and `trains.py` first."""
