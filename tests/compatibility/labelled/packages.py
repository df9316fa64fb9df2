from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING

import numba
import nvidia.dali.fn as fn
import triton
import triton.language as tl
from apex.optimizers import FusedAdam
from flash_attn import flash_attn_func
from numba import cuda

from . import cupy as local_cupy
from .xformers import thing

try:
    import bitsandbytes as bnb
except ImportError:
    bnb = None

if TYPE_CHECKING:
    import transformer_engine

pycuda = importlib.import_module("pycuda.driver")

log = logging.getLogger("xformers")


@triton.jit
def kernel(x, BLOCK: tl.constexpr):
    tl.store(x, tl.load(x))
