"""The command `ds dmp`."""
