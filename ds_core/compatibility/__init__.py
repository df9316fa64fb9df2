"""Whether a machine and a project fit a target: what `ds check-compatibility` looks at."""
