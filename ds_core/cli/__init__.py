"""The command `ds`: one file for each noun, imported when it is used."""
