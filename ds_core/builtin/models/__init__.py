"""Model sources that ship with the core, each for one library or file format."""
