"""The vendor's torch_npu on a stub of CANN: no card, no CANN, no operator that runs on a device."""
