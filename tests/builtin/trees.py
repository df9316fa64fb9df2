"""Copies of `/proc`, `/sys` and `/dev` as machines have them, and probing in a fresh process."""

import os
import subprocess
import sys
from pathlib import Path

import ds_core
from ds_core.components import Probe

REPOSITORY = Path(ds_core.__file__).parents[1]


def write(root, files):
    """Write `files`, path to text or bytes; returns the root as text."""
    for path, content in files.items():
        target = Path(root, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(root)


def run(code, *, path=(), env=None):
    """What `code` prints in a fresh interpreter with `path` in front of the import path."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **{key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"},
            "PYTHONPATH": os.pathsep.join([*map(str, path), str(REPOSITORY)]),
            **(env or {}),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def torch_folder(folder, version, cuda=None, hip=None):
    """An import path on which torch is a build of this kind; it cannot be imported."""
    write(
        folder,
        {
            "torch/__init__.py": "raise ImportError('probing must not import torch')",
            "torch/version.py": "from typing import Optional\n"
            f"__version__ = {version!r}\ndebug = False\n"
            f"cuda: Optional[str] = {cuda!r}\nhip: Optional[str] = {hip!r}\n",
        },
    )
    return folder


def probe(backend, root, *, path=(), env=None, before=""):
    """`backend.probe(root)` in a process of its own, which runs the statement `before` first."""
    code = (
        f"from ds_core.builtin.{backend} import {backend.title()} as B\n{before}\n"
        f"print(B.probe({str(root)!r}).model_dump_json())"
    )
    return Probe.model_validate_json(run(code, path=path, env=env))
