"""What code written for CUDA meets on AMD's cards, for `ds check-compatibility`."""

from ds_rocm.porting.target import porting

__all__ = ["porting"]
