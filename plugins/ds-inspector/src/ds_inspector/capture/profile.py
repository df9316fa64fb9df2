"""One step under torch.profiler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ds_inspector.capture.marks import MODULE, STEP, Ranges

if TYPE_CHECKING:
    import torch


class Profile:
    """Records steps, each in a profile of its own.

    Args:
        device: The model's, whose kernels are recorded as well where torch can.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._ranges = Ranges()
        self._profiler: Any = None

    def start(self) -> None:
        """Begin a step."""
        from torch.profiler import profile

        self._profiler = profile(
            activities=_activities(self._device), record_shapes=True, with_flops=True
        )
        try:
            self._profiler.start()
        except BaseException:
            self._profiler = None
            raise
        self._ranges.enter(STEP)

    def stop(self) -> Any:
        """End the step.

        Returns:
            Kineto's events.
        """
        self._ranges.clear()
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        return profiler.profiler.kineto_results.events()

    def enter(self, name: str) -> None:
        """A module's forward begins."""
        self._ranges.enter(MODULE + name)

    def leave(self, name: str, inputs: Any, output: Any) -> None:
        """A module's forward ends."""
        self._ranges.leave()


def _activities(device: torch.device) -> list[Any]:
    from torch.profiler import ProfilerActivity, supported_activities

    supported: Any = supported_activities()  # type: ignore[no-untyped-call]
    wanted = {"cuda": "CUDA", "xpu": "XPU", "mtia": "MTIA", "hpu": "HPU"}.get(
        device.type, "PrivateUse1"
    )
    device_activity: Any = getattr(ProfilerActivity, wanted, None)
    found = [ProfilerActivity.CPU]
    if device.type != "cpu" and device_activity in supported:
        found.append(device_activity)
    return found
