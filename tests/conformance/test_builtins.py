"""The core's own components pass the suites that plugin authors run."""

from typing import ClassVar

from ds_core.testing import (
    BackendConformance,
    ObserverConformance,
    PrecisionConformance,
    PrunerConformance,
    TopologyConformance,
    TransformConformance,
)


class TestCpu(BackendConformance):
    name = "cpu"
    tolerance = 0.0


class TestFp32(PrecisionConformance):
    name = "fp32"
    tolerance = 0.0


class TestBf16(PrecisionConformance):
    name = "bf16"


class TestFp16(PrecisionConformance):
    name = "fp16"


class TestAuto(PrecisionConformance):
    name = "auto"


class TestMagnitude(PrunerConformance):
    name = "magnitude"


class TestFlat(TopologyConformance):
    name = "flat"


class TestFinite(ObserverConformance):
    name = "finite"
    options: ClassVar = {"action": "count"}


class TestFoldBatchNorm(TransformConformance):
    name = "fold-bn"
