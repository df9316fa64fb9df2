"""Training with less memory: saved activations, weight casts and optimizer state in few bits.

`memory.py` puts the parts together; `packing.py` decides what becomes of each tensor that autograd
saves, `records.py` holds what it became.
"""
