"""The parts of `ds demo`: data, a model, and figures that are measured."""
