"""Huawei Ascend NPUs for ds-core."""
