"""Physical removal of channels, and the proof that it computes the right thing."""

from ds_prune.surgery.proof import Proof, prove
from ds_prune.surgery.record import Change, Record
from ds_prune.surgery.removal import Removal, apply_record, remove
from ds_prune.surgery.shrink import Analysed, Outcome, shrink

__all__ = [
    "Analysed",
    "Change",
    "Outcome",
    "Proof",
    "Record",
    "Removal",
    "apply_record",
    "prove",
    "remove",
    "shrink",
]
