"""`python -m ds_core` is `ds`."""

from ds_core.cli.main import main

main()
