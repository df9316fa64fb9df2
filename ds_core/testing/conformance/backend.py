"""The suite of backends."""

from __future__ import annotations

import copy
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

import ds_core as ds
from ds_core.components import Backend, BackendInfo, MemoryFigures, Probe, TuneReport
from ds_core.components.porting import CONSTRUCTS, CUDA_PACKAGES, Porting
from ds_core.components.porting import DTYPES as DTYPES_ASKED
from ds_core.errors import BackendError
from ds_core.testing import jobs
from ds_core.testing.conformance.checks import check
from ds_core.testing.conformance.metadata import MetadataChecks
from ds_core.testing.conformance.sessions import SessionChecks
from ds_core.testing.conformance.subject import attach, python
from ds_core.testing.conformance.trains import MODELS
from ds_core.testing.conformance.transform import ConvNorm

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

PROBE = """
import json, sys, time
module = __import__(sys.argv[1], fromlist=["_"])
backend = getattr(module, sys.argv[2])
start = time.perf_counter()
probe = backend.probe(sys.argv[3])
seconds = time.perf_counter() - start
print(json.dumps({
    "torch": "torch" in sys.modules, "seconds": seconds, "probe": probe.model_dump(mode="json"),
}))
"""

PORTING = """
import json, sys
before = set(sys.modules)
module = __import__(sys.argv[1], fromlist=["_"])
getattr(module, sys.argv[2]).porting()
vendors = {"torch", "torch_npu", "habana_frameworks", "triton"}
print(json.dumps(sorted(vendors & (set(sys.modules) - before))))
"""

GARBAGE = (b"", b"\x00\xff\xfe", b"-1", b"n/a\n" * 1000, b": : :\n=\n", "\u20ac".encode())


class BackendConformance(SessionChecks, MetadataChecks):
    """All checks of a backend.

    Those that compute need the hardware, or a simulated device under its name; without either set
    `present = False`, and only what can be checked without it is run.
    """

    kind = "backend"
    tolerance: ClassVar[float] = 1e-3
    """Backends on the CPU should set 0."""

    present: ClassVar[bool] = True
    """Whether the device is here."""

    paths: ClassVar[tuple[str, ...]] = (
        "proc/cpuinfo",
        "proc/meminfo",
        "proc/driver/nvidia/version",
        "sys/class/kfd/kfd/topology/nodes/0/properties",
        "sys/bus/pci/devices/0000:00:00.0/vendor",
        "sys/bus/pci/devices/0000:00:00.0/device",
        "sys/bus/pci/devices/0000:00:00.0/class",
    )
    """Files of a host that the probe reads, without the leading slash; add those of the vendor."""

    def passes(self, *more: Any) -> dict[str, Any]:
        """Arguments of `attach` that use the backend."""
        self.needs_device()
        arguments = super().passes(*more)
        arguments["backend"] = self.make()
        return arguments

    def needs_device(self) -> None:
        """Skip what cannot be checked without the device."""
        if not self.present:
            pytest.skip("this suite was told that the device is not here")

    @pytest.fixture
    def active(self) -> Iterator[Backend]:
        """The backend, activated."""
        self.needs_device()
        made = self.make()
        assert isinstance(made, Backend)
        made.activate()
        yield made
        made.synchronize()

    def probe_of(self, root: str) -> Probe:
        """What the probe finds under a root."""
        backend = self.component
        assert issubclass(backend, Backend)
        return backend.probe(root)

    # Probing

    @check(
        "probe.no-torch",
        "`ds backends` answers at once, also where torch cannot be imported",
        "Read files and load vendor libraries by ctypes; never import torch in probe().",
    )
    def test_probe_without_torch(self, record_property: Callable[[str, Any], None]) -> None:
        module, _, attribute = self.record.value.partition(":")
        found = json.loads(python(PROBE, module, attribute, "/"))
        assert not found["torch"], "probe() imports torch"
        record_property("probe_ms", round(1e3 * found["seconds"], 2))
        print(f"probe() took {1e3 * found['seconds']:.1f} ms")  # noqa: T201

    @check(
        "probe.presence",
        "a backend that is not there must not be chosen",
        "Set present from what was found; set the suite's `present` to what is true here.",
    )
    def test_probe_tells_presence(self) -> None:
        if self.present:
            assert self.probe_of("/").present

    @check(
        "probe.usable",
        "what stands in the way of a device that is there must be solved or said",
        "Return problems only for what keeps the device from working.",
    )
    def test_probe_is_usable(self) -> None:
        if self.present:
            assert not self.probe_of("/").problems

    @check(
        "probe.devices",
        "a device that is there is listed",
        "Return one Device for each, with a name.",
    )
    def test_probe_lists_devices(self) -> None:
        self.needs_device()
        devices = self.probe_of("/").devices
        assert devices
        assert all(device.name for device in devices)
        assert [device.index for device in devices] == list(range(len(devices)))

    @check(
        "probe.memory",
        "`auto` compares memory",
        "Give bytes, or None where they cannot be read without the vendor's library.",
    )
    def test_probe_memory(self) -> None:
        for device in self.probe_of("/").devices:
            assert device.memory is None or device.memory > 2**20

    @check(
        "probe.json",
        "`ds backends --json` prints it",
        "Fill the fields of Probe and nothing else.",
    )
    def test_probe_round_trips(self) -> None:
        probe = self.probe_of("/")
        assert Probe.model_validate_json(probe.model_dump_json()) == probe

    @check(
        "probe.repeatable",
        "asking twice must give the same answer",
        "Keep no state in probe().",
    )
    def test_probe_twice(self) -> None:
        assert self.probe_of("/") == self.probe_of("/")

    @check(
        "probe.empty-host",
        "a host without any of the usual files must be told apart from a broken one",
        "Return Probe(present=False) where nothing is found; raise nothing.",
    )
    def test_probe_of_an_empty_host(self, tmp_path: Path) -> None:
        assert isinstance(self.probe_of(str(tmp_path)), Probe)

    @check(
        "probe.missing-root",
        "a root that does not exist is an empty host",
        "Treat missing folders as empty.",
    )
    def test_probe_of_a_missing_root(self, tmp_path: Path) -> None:
        assert isinstance(self.probe_of(str(tmp_path / "nowhere")), Probe)

    @check(
        "probe.garbage",
        "files of drivers have odd contents on odd hosts",
        "Parse defensively; what cannot be read is a problem with its mend, never an exception.",
    )
    @pytest.mark.parametrize("content", GARBAGE, ids=range(len(GARBAGE)))
    def test_probe_of_garbage(self, content: bytes, tmp_path: Path) -> None:
        for path in self.paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(content)
        probe = self.probe_of(str(tmp_path))
        assert all(problem.what and problem.mend for problem in probe.problems)

    @check(
        "probe.folders",
        "what should be a file may be a folder, and the other way round",
        "Treat an OSError of any kind as a file that is not there.",
    )
    def test_probe_where_files_are_folders(self, tmp_path: Path) -> None:
        for path in self.paths:
            (tmp_path / path).mkdir(parents=True, exist_ok=True)
        assert isinstance(self.probe_of(str(tmp_path)), Probe)

    @check(
        "probe.permissions",
        "containers hide files",
        "Treat a file that cannot be read as a problem with its mend, or as absent.",
    )
    def test_probe_where_nothing_can_be_read(self, tmp_path: Path) -> None:
        for path in self.paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(b"0x0000\n")
            (tmp_path / path).chmod(0)
        try:
            assert isinstance(self.probe_of(str(tmp_path)), Probe)
        finally:
            for path in self.paths:
                (tmp_path / path).chmod(stat.S_IRUSR | stat.S_IWUSR)

    @check(
        "probe.mends",
        "a problem without a mend helps nobody",
        "Say what to install, to set or to ask for.",
    )
    def test_problems_have_mends(self) -> None:
        for problem in self.probe_of("/").problems:
            assert problem.what.strip()
            assert problem.mend.strip()

    @check(
        "probe.environment",
        "a probe must change nothing",
        "Do not set variables, not even for the vendor's library.",
    )
    def test_probe_changes_no_environment(self) -> None:
        before = dict(os.environ)
        self.probe_of("/")
        assert dict(os.environ) == before

    # What code written for CUDA meets

    @check(
        "porting.no-torch",
        "`ds check-compatibility` reads it on machines without torch and without the device",
        "Return data from porting(); import neither torch nor the vendor's packages.",
    )
    def test_porting_without_torch(self) -> None:
        module, _, attribute = self.record.value.partition(":")
        assert json.loads(python(PORTING, module, attribute)) == [], "porting() imports"

    @check(
        "porting.vocabulary",
        "a key that the scan never asks for says nothing to anybody",
        "Use the names in ds_core.components.porting: CUDA_PACKAGES, CONSTRUCTS, DTYPES.",
    )
    def test_porting_uses_known_names(self) -> None:
        porting = self.porting()
        assert set(porting.packages) <= set(CUDA_PACKAGES)
        assert set(porting.constructs) <= set(CONSTRUCTS)
        assert {rule.dtype for rule in porting.dtypes} <= set(DTYPES_ASKED)

    @check(
        "porting.reasons",
        "who is told that something does not work asks why",
        "Give a reason with each dtype that does not work, a why with what is unmapped.",
    )
    def test_porting_gives_reasons(self) -> None:
        porting = self.porting()
        assert all(rule.reason for rule in porting.dtypes if not rule.works)
        assert all(found.why for found in porting.constructs.values())
        assert all(found.how for found in porting.packages.values())
        assert (porting.native is None) == bool(porting.native_absent)

    @check(
        "porting.names",
        "native code holds any names",
        "Answer `unmapped` for what is not known, and raise nothing.",
    )
    @pytest.mark.parametrize("name", ["cudaMalloc", "cuda_fp16.h", "cudaNoSuchCall", "", "\u20ac"])
    def test_porting_answers_any_name(self, name: str) -> None:
        native = self.porting().native
        if native is None:
            pytest.skip("native code for CUDA does not port")
        found = native(name)
        assert found.to or found.status == "unmapped"

    def porting(self) -> Porting:
        """What the backend says of code written for CUDA; skips where that is nothing."""
        backend = self.component
        assert issubclass(backend, Backend)
        porting = backend.porting()
        if porting is None:
            pytest.skip("nothing is known of code written for CUDA")
        return porting

    # Activating

    @check(
        "activate.absent",
        "a device that is not there gets a sentence",
        "Raise BackendError with a mend from activate().",
    )
    def test_activate_without_the_device(self) -> None:
        if self.present:
            pytest.skip("the device is here")
        made = self.make()
        assert isinstance(made, Backend)
        with pytest.raises(BackendError) as caught:
            made.activate()
        assert caught.value.mend

    @check(
        "activate.repeatable",
        "several sessions activate one backend",
        "Do nothing where it has been done.",
    )
    def test_activate_twice(self, active: Backend) -> None:
        active.activate()
        active.activate()

    @check(
        "activate.device-type",
        "torch must know the device",
        "Set device_type to what torch.device calls it.",
    )
    def test_torch_knows_the_device(self, active: Backend) -> None:
        assert active.device().type == active.device_type
        assert torch.zeros(2, device=active.device()).device.type == active.device_type

    @check(
        "activate.local-rank",
        "torchrun gives each process a device",
        "Take LOCAL_RANK, modulo the number of devices, for device().",
    )
    def test_local_rank(self, active: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOCAL_RANK", "5")
        assert active.device().type == active.device_type

    # What it knows

    @check(
        "info.form",
        "reports and `ds explain` show it",
        "Return a BackendInfo with the device's own name.",
    )
    def test_info(self, active: Backend) -> None:
        info = active.info()
        assert BackendInfo.model_validate_json(info.model_dump_json()) == info
        assert info.name
        assert torch.device(info.device).type == active.device_type

    @check(
        "info.cached",
        "info is asked for at each attach",
        "Measure once and keep the result.",
    )
    def test_info_is_the_same_each_time(self, active: Backend) -> None:
        assert active.info() == active.info()

    @check(
        "info.names-dtypes",
        "policies look dtypes up by their short names",
        "List fp32, bf16 and fp16 at least, also those that do not work.",
    )
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_info_lists(self, active: Backend, dtype: str) -> None:
        assert dtype in active.info().dtypes

    @check(
        "info.float32",
        "every training may fall back to float32",
        "A device without float32 cannot be a backend.",
    )
    def test_float32_works(self, active: Backend) -> None:
        assert active.info().dtypes["fp32"].works

    @check(
        "info.reasons",
        "users ask why a dtype is not offered",
        "Give a reason for each dtype that does not work or is not fast.",
    )
    def test_reasons(self, active: Backend) -> None:
        for name, support in active.info().dtypes.items():
            if not support.works or not support.fast:
                assert support.reason or name == "fp32", f"{name} has no reason"

    @check(
        "info.overflow",
        "loss scaling must know how overflow shows",
        "Set overflow to `inf`, or to `saturate` and implement overflowed().",
    )
    def test_overflow_semantics(self, active: Backend) -> None:
        info = active.info()
        assert info.overflow in ("inf", "saturate")
        flag = active.overflowed()
        assert flag is None if info.overflow == "inf" else isinstance(flag, bool)

    @check(
        "info.best",
        "precision `auto` takes it",
        "Mark as fast only what was measured so.",
    )
    def test_best_dtype_works(self, active: Backend) -> None:
        info = active.info()
        assert info.dtypes[info.best].works

    @check(
        "info.provides",
        "sessions check what passes require",
        "Build on Backend.provides: dtypes that work, and the collective library.",
    )
    def test_provides_what_works(self, active: Backend) -> None:
        works = {f"dtype:{name}" for name, dtype in active.info().dtypes.items() if dtype.works}
        assert works <= active.provides

    # Computing

    def _supported(self, active: Backend, dtype: str) -> torch.dtype:
        if not active.info().dtypes[dtype].works:
            pytest.skip(f"{dtype} does not work here: {active.info().dtypes[dtype].reason}")
        return DTYPES[dtype]

    @check(
        "compute.matmul",
        "a dtype that is said to work must give right results",
        "Test a dtype before offering it.",
    )
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_matrix_multiply(self, active: Backend, dtype: str) -> None:
        kind = self._supported(active, dtype)
        torch.manual_seed(0)
        a, b = torch.randn(32, 16), torch.randn(16, 24)
        found = (a.to(active.device(), kind) @ b.to(active.device(), kind)).cpu().float()
        torch.testing.assert_close(found, a @ b, rtol=5e-2, atol=1e-1)

    @check(
        "compute.autocast",
        "precision policies enter autocast regions",
        "Implement autocast() for each dtype that works.",
    )
    @pytest.mark.parametrize("dtype", ["bf16", "fp16"])
    def test_autocast(self, active: Backend, dtype: str) -> None:
        kind = self._supported(active, dtype)
        made = nn.Linear(8, 4).to(active.device())
        with active.autocast(kind):
            out = made(torch.randn(2, 8, device=active.device()))
        assert out.dtype == kind
        assert made(torch.randn(2, 8, device=active.device())).dtype == torch.float32

    @check(
        "compute.forward",
        "a model must compute what it computes on the CPU",
        "Look at the operators that differ; float32 must not be reduced silently.",
    )
    @MODELS
    def test_forward_as_on_the_cpu(self, active: Backend, model: type[nn.Module]) -> None:
        made, _ = self.job(model)
        made.eval()
        x, _ = next(jobs.batches(1))
        expected = made(x)
        found = copy.deepcopy(made).to(active.device())(x.to(active.device())).cpu()
        torch.testing.assert_close(
            found, expected, rtol=max(self.tolerance, 1e-6), atol=max(self.tolerance, 1e-6)
        )

    @check(
        "compute.training",
        "float32 training must follow the CPU's",
        "Look at the operators that differ in backward.",
    )
    @pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
    @pytest.mark.parametrize("model", [*jobs.MODELS, ConvNorm], ids=lambda model: model.__name__)
    def test_training_as_on_the_cpu(
        self, active: Backend, model: type[nn.Module], optimizer: str
    ) -> None:
        def run(device: torch.device) -> list[float]:
            torch.manual_seed(0)
            made = model()
            for module in made.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
            made.to(device)
            parameters = [p for p in made.parameters() if p.requires_grad]
            trains = getattr(torch.optim, optimizer)(parameters, lr=1e-2)
            return jobs.train(made, trains, 5, device=device)

        found, expected = run(active.device()), run(torch.device("cpu"))
        if self.tolerance == 0:
            assert found == expected
        else:
            assert found == pytest.approx(expected, rel=self.tolerance)

    @check(
        "compute.synchronize",
        "timings wait for the device",
        "Wait in synchronize() until all work is done.",
    )
    def test_synchronize(self, active: Backend) -> None:
        a = torch.randn(64, 64, device=active.device())
        b = a @ a
        active.synchronize()
        assert b.isfinite().all()

    # Memory

    @check(
        "memory.figures",
        "reports compare memory between vendors",
        "Translate the vendor's keys to MemoryFigures, in bytes.",
    )
    def test_memory_figures(self, active: Backend) -> None:
        figures = active.memory()
        assert isinstance(figures, MemoryFigures)
        for name, value in figures.model_dump().items():
            assert value is None or value >= 0, name
        if figures.allocated is not None and figures.peak is not None:
            assert figures.peak >= figures.allocated
        if figures.total is not None and figures.free is not None:
            assert figures.total >= figures.free

    @check(
        "memory.grows",
        "figures must follow what is allocated",
        "Read the allocator's figures for the current device.",
    )
    def test_memory_follows_an_allocation(self, active: Backend) -> None:
        size = 64 * 2**20
        active.synchronize()
        before = active.memory().allocated
        if before is None:
            pytest.skip("the device does not say what is allocated")
        held = torch.ones(size // 4, device=active.device())
        active.synchronize()
        after = active.memory().allocated
        assert after is not None
        assert after - before > size // 2
        del held

    @check(
        "memory.peak",
        "peaks are compared between runs",
        "Let reset_peak_memory start again from what is in use.",
    )
    def test_the_peak_is_reset(self, active: Backend) -> None:
        held = torch.ones(2**22, device=active.device())
        del held
        active.reset_peak_memory()
        figures = active.memory()
        assert figures.peak is None or figures.allocated is None or figures.peak >= 0

    # Random numbers

    @check(
        "random.round-trip",
        "checkpoints hold the random state",
        "Return the default generator's state as a uint8 tensor in host memory.",
    )
    def test_rng_state_round_trips(self, active: Backend) -> None:
        state = active.rng_state()
        assert state.dtype == torch.uint8
        assert state.device.type == "cpu"
        one = torch.rand(8, device=active.device())
        active.set_rng_state(state)
        two = torch.rand(8, device=active.device())
        assert torch.equal(one.cpu(), two.cpu())

    @check(
        "random.seed",
        "torch.manual_seed seeds all devices",
        "Register the device's generator with torch.",
    )
    def test_manual_seed(self, active: Backend) -> None:
        found = []
        for _ in range(2):
            torch.manual_seed(5)
            found.append(torch.rand(8, device=active.device()).cpu())
        assert torch.equal(*found)

    @check(
        "random.dropout",
        "dropout must be repeatable",
        "Draw from the device's default generator.",
    )
    def test_dropout_is_repeatable(self, active: Backend) -> None:
        x = torch.ones(64, device=active.device())
        state = active.rng_state()
        one = F.dropout(x, 0.5)
        active.set_rng_state(state)
        assert torch.equal(one.cpu(), F.dropout(x, 0.5).cpu())

    # Collectives, compiling, profiling, tuning

    @check(
        "collective.name",
        "topologies ask for the collective library",
        "Return the name that init_process_group takes, or None.",
    )
    def test_distributed_backend(self, active: Backend) -> None:
        name = active.distributed_backend()
        assert name is None or re.fullmatch(r"[a-z0-9_]+", name)

    @check(
        "collective.ops",
        "topologies ask which reductions there are",
        "Return lower-case names; sum at least where there is a library.",
    )
    def test_reduce_ops(self, active: Backend) -> None:
        if active.distributed_backend() is not None:
            assert "sum" in active.reduce_ops()
        assert all(op == op.lower() for op in active.reduce_ops())

    @check(
        "collective.works",
        "what is promised must work",
        "Test each reduction that reduce_ops() names.",
    )
    def test_all_reduce_in_a_group_of_one(self, active: Backend, tmp_path: Path) -> None:
        name = active.distributed_backend()
        if name is None or dist.is_initialized():
            pytest.skip("no collective library, or a group is there already")
        dist.init_process_group(name, init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
        try:
            for op in sorted(active.reduce_ops() & {"sum", "max", "min", "product"}):
                value = torch.full((3,), 2.0, device=active.device())
                dist.all_reduce(value, getattr(dist.ReduceOp, op.upper()))
                assert value.cpu().tolist() == [2.0] * 3, op
        finally:
            dist.destroy_process_group()

    @check(
        "compile.backend",
        "torch.compile is told the vendor's compiler",
        "Return a name that torch._dynamo.list_backends(None) has, once activated.",
    )
    def test_compile_backend(self, active: Backend) -> None:
        assert active.compile_backend() in torch._dynamo.list_backends(exclude_tags=None)

    @check(
        "profile.activities",
        "profilers are told what to record",
        "Return activities that torch.profiler supports here.",
    )
    def test_profiler_activities(self, active: Backend) -> None:
        with torch.profiler.profile(activities=active.profiler_activities()) as profile:
            torch.ones(4, device=active.device()).sum()
        assert profile.key_averages()

    @check(
        "tune.values",
        "tuning changes layout, never values",
        "Compare before and after, bit for bit.",
    )
    @pytest.mark.parametrize("model", [jobs.Mlp, ConvNorm, jobs.Attention])
    def test_tune_keeps_values(self, active: Backend, model: type[nn.Module]) -> None:
        made, _ = self.job(model)
        made.to(active.device())
        before, training = jobs.values(made), made.training
        report = active.tune(made, (next(jobs.batches(1))[0].to(active.device()),))
        assert isinstance(report, TuneReport)
        assert jobs.same_values(made, before)
        assert made.training == training

    # Sessions

    @check(
        "session.places",
        "a session puts the model on its backend's device",
        "Leave Backend.ds_prepare_model as it is, or place everything that it places.",
    )
    @MODELS
    def test_a_session_places_the_model(self, model: type[nn.Module]) -> None:
        made, optimizer = self.job(model)
        jobs.train(made, optimizer, 1)
        with self.session(made, optimizer) as session:
            assert session.device.type == session.backend.device_type
            assert {p.device.type for p in made.parameters()} == {session.device.type}
            self.train(session, 1)
        assert {p.device.type for p in made.parameters()} == {"cpu"}

    @check(
        "session.precision",
        "each dtype that works must train",
        "Look at autocast and at how overflow shows.",
    )
    @pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "auto"])
    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    def test_each_precision_trains(self, active: Backend, precision: str) -> None:
        if precision in DTYPES:
            self._supported(active, precision)
        made, optimizer = self.job(ConvNorm)
        with attach(made, optimizer, backend=self.make(), precision=precision) as session:
            losses = self.train(session, 30)
        assert sum(losses[-5:]) < sum(losses[:5]), losses

    @check(
        "session.memory-returns",
        "a detached session must not hold device memory",
        "Keep no tensors in the backend.",
    )
    def test_memory_returns_after_detach(self, active: Backend) -> None:
        made, optimizer = self.job()
        with self.session(made, optimizer) as session:
            self.train(session, 2)
        assert isinstance(active.memory(), MemoryFigures)
        assert ds.session_of(made) is None

    @check(
        "overhead.probe",
        "users wait for `ds backends`",
        "Nothing: the figure is printed and recorded, not judged.",
    )
    def test_probe_time(self, record_property: Callable[[str, Any], None]) -> None:
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            self.probe_of("/")
            seconds.append(time.perf_counter() - start)
        record_property("probe_ms_warm", round(1e3 * sorted(seconds)[2], 2))
