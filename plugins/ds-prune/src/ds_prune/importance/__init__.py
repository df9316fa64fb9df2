"""Criteria: what each atom is worth to the model."""
