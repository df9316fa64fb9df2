"""New plugins: `templates/` holds what they are made of, in files that can be read as they are."""
