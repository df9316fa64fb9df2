"""Small networks that train well in float32 and fail in 16 bit, each for a cause met in practice.

`inputs`, `targets`, `hidden`, `lookups` and `gradients` hold them by where the cause lies, `job`
says what a training is, and `healthy` is the trunk that most of them share: in each one at least
85% of the multiply-adds are fine in 16 bit.
"""

from . import gradients, hidden, inputs, lookups, targets
from .job import Batch, Job, Network

__all__ = ["NETWORKS", "Batch", "Job", "Network"]

NETWORKS: tuple[Network, ...] = (
    *inputs.NETWORKS,
    *targets.NETWORKS,
    *hidden.NETWORKS,
    *lookups.NETWORKS,
    *gradients.NETWORKS,
)
