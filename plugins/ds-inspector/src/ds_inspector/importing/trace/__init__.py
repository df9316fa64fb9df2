"""Traces in Chrome's format, as torch.profiler writes them."""
