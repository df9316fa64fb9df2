"""Components that ship with the core and use nothing that a plugin could not."""
