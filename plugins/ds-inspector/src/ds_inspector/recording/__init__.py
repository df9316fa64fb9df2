"""What was recorded of a model: tables of events, graph nodes and tensors, in one file."""

from ds_inspector.recording.recording import Recording
from ds_inspector.recording.schema import FORMAT
from ds_inspector.recording.store import load, save
from ds_inspector.recording.table import Table, Texts

__all__ = ["FORMAT", "Recording", "Table", "Texts", "load", "save"]
