"""What a model does while it runs, as tables."""
