"""Measured time: of layers at other widths, and from it of models."""
