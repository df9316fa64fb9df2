"""Makes the stub: one shared library under the names of all of CANN's that torch_npu needs."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("cann_stub.c")
VERSION = "9.1.0"
"""The release of CANN that the stub says it is."""

_LOADED = ("libopapi.so", {"aclnnInplaceCopy", "aclnnInplaceCopyGetWorkspaceSize"})
"""What torch_npu looks for before it copies on an Ascend950, though it then copies without them."""

_FUNCTION = re.compile(r"(?:acl|rt[A-Z]|Msprof|Hccl)\w*")
_OF_THE_SYSTEM = re.compile(r"(?:lib(?:c|m|dl|rt|pthread|gcc_s|stdc\+\+)\.so\.\d+|ld-linux.*)")
_GENERATED = "int cann_stub_refuses(const char *);\n"


class Stub(NamedTuple):
    """A stub that was built."""

    home: Path
    """As `ASCEND_HOME_PATH` names it."""
    refused: frozenset[str]
    """Functions that torch_npu links to and that always fail."""

    @property
    def environment(self) -> dict[str, str]:
        """What CANN's `set_env.sh` would set."""
        before = os.environ.get("LD_LIBRARY_PATH")
        return {
            "ASCEND_HOME_PATH": str(self.home),
            "ASCEND_OPP_PATH": str(self.home / "opp"),
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, (str(self.home / "lib64"), before))),
        }


def vendor() -> Path | None:
    """Where torch_npu is installed, found without importing it; None where it is not."""
    spec = find_spec("torch_npu")
    return Path(spec.origin).parent if spec and spec.origin else None


def build(torch_npu: Path, home: Path) -> Stub:
    """Compile the stub for one torch_npu, against the declarations that it brings.

    Args:
        torch_npu: The folder of the installed package.
        home: An empty folder, which becomes CANN's.

    Raises:
        subprocess.CalledProcessError: The compiler, nm or readelf failed; says so on stderr.
    """
    libraries = list(_shipped(torch_npu))
    lib64 = home / "lib64"
    for folder in (lib64, home / "opp", home / "runtime", home / "compiler"):
        folder.mkdir(parents=True)
    info = home / f"{platform.machine()}-linux/ascend_toolkit_install.info"
    info.parent.mkdir()
    info.write_text(f"package_name=Ascend-cann-toolkit\nversion={VERSION}\n", encoding="utf-8")

    written = _compile(SOURCE, home / "written.o", "-I", str(torch_npu / "include"))
    refused = {
        name
        for library in libraries
        for name in _symbols(library, "--undefined-only")
        if _FUNCTION.fullmatch(name)
    }
    refused |= _LOADED[1]
    refused -= set(_symbols(written, "--defined-only", dynamic=False))
    source = home / "refused.c"
    source.write_text(_GENERATED + "".join(map(_refusal, sorted(refused))), encoding="utf-8")
    generated = _compile(source, home / "refused.o")
    library = lib64 / "libascendcl.so"
    _run("gcc", "-shared", "-pthread", "-o", str(library), str(written), str(generated))
    names = {_LOADED[0]} | {name for one in libraries for name in _needed(one)}
    for name in names - {library.name}:
        (lib64 / name).symlink_to(library.name)
    return Stub(home, frozenset(refused))


def _refusal(name: str) -> str:
    # What makes a thing returns its address: none.
    made = re.match(r"acl(op)?Create", name)
    call = f'cann_stub_refuses("{name}")'
    if made:
        return f"void *{name}(void) {{ {call}; return 0; }}\n"
    return f"int {name}(void) {{ return {call}; }}\n"


def _shipped(torch_npu: Path) -> Iterator[Path]:
    """What `import torch_npu` loads: not TorchAir, which is loaded on demand."""
    yield from torch_npu.glob("_C.*.so")
    # Built for a further library (ATB), which is loaded on demand.
    yield from (path for path in torch_npu.glob("lib/*.so") if path.stem != "libop_plugin_atb")


def _needed(library: Path) -> Iterator[str]:
    """The shared libraries that are neither torch's nor the wheel's nor the system's: CANN's."""
    torch = find_spec("torch")
    assert torch is not None
    assert torch.origin is not None
    known = [Path(torch.origin).parent / "lib", library.parent, library.parent / "lib"]
    for name in re.findall(r"\(NEEDED\).*\[(.+)\]", _run("readelf", "-dW", str(library))):
        there = any((folder / name).exists() for folder in known)
        if not there and not _OF_THE_SYSTEM.fullmatch(name):
            yield name


def _symbols(file: Path, which: str, *, dynamic: bool = True) -> list[str]:
    flags = ["-D"] if dynamic else []
    return [line.split()[-1] for line in _run("nm", *flags, which, str(file)).splitlines()]


def _compile(source: Path, target: Path, *flags: str) -> Path:
    _run("gcc", "-c", "-fPIC", "-O1", "-Wall", *flags, str(source), "-o", str(target))
    return target


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
