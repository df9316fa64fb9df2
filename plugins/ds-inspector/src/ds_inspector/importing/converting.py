"""Models that only TensorFlow can read, which does so in a process of its own."""

from __future__ import annotations

import importlib.util
import mmap
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ds_core.errors import RefusedError
from ds_inspector.importing import tensorflow
from ds_inspector.importing.protobuf import Wire
from ds_inspector.recording import Recording

_EXTRA = "pip install ds-inspector[tensorflow]"
_SECONDS = 300
_OLD = "ds-inspector: keras is too old"
# Safe mode refuses what would run code from the file, with certainty only since Keras 3.12.
_SCRIPT = f"""
import sys
import keras
if tuple(map(int, keras.__version__.split(".")[:2])) < (3, 12):
    sys.exit({_OLD!r})
import tensorflow as tf
model = keras.models.load_model(sys.argv[1], compile=False, safe_mode=True)
specs = [tf.TensorSpec(each.shape, each.dtype, each.name) for each in model.inputs]
graph = tf.function(lambda *inputs: model(list(inputs) if len(inputs) > 1 else inputs[0]))
definition = graph.get_concrete_function(*specs).graph.as_graph_def(add_shapes=True)
with open(sys.argv[2], "wb") as file:
    file.write(definition.SerializeToString())
"""


def read(path: Path, python: str = sys.executable) -> Recording:
    """Read a `.keras` file.

    Args:
        path: The file.
        python: An interpreter that has TensorFlow.

    Raises:
        RefusedError: TensorFlow is missing, or cannot read it.
    """
    if python == sys.executable and importlib.util.find_spec("tensorflow") is None:
        raise RefusedError(f"{path} is a model of Keras, which only TensorFlow reads.", mend=_EXTRA)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    with tempfile.TemporaryDirectory(prefix="ds-inspector-") as folder:
        graph = Path(folder, "graph.pb")
        command = [python, "-c", _SCRIPT, str(path.resolve()), str(graph)]
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise RefusedError(f"TensorFlow needs more than {_SECONDS} s for {path}.") from None
        if _OLD in done.stderr:
            raise RefusedError(
                f"{path} may hold code that this version of Keras would run.",
                mend="pip install --upgrade 'keras>=3.12'",
            )
        if done.returncode or not graph.is_file():
            reason = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise RefusedError(f"TensorFlow cannot read {path}: {reason:.200}.")
        with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return tensorflow.read_graph(Wire(data), len(data), path.name)
