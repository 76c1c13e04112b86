"""Runs a Python program in a confined child process; knows nothing of what the program is for.

The child has no network, none of the host's files but Python's own (read-only), one scratch folder
in memory, no rights, and limits for everything; its processes end as one, with us at the latest
(launcher.py). A host that cannot give all of this gets a refusal, never less.
"""

import asyncio
import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from localfusion.errors import FusionError

Ended = Literal["finished", "time", "memory", "output", "crashed"]

_PACKAGES = "/packages"
_LAUNCHER = Path(__file__).with_name("launcher.py")
_MAX_SOURCE_BYTES = 4 << 20
_CHUNK = 1 << 16
_SETUP_SECONDS = 10.0
"""For the launcher beyond the program's own time, on a machine that is busy."""
_PROBE = """\
import errno, os, socket
if sorted(set(os.listdir("/")) - {"etc", "lib", "lib32", "lib64", "libx32", "nix"}) != SEEN:
    print("its files are not hidden:", os.listdir("/"))
elif os.access("/", os.W_OK) or not os.access("/scratch", os.W_OK):
    print("its files are not read-only")
elif os.getuid() == 0 or os.getpid() == 1:
    print("its user or process 1 is wrong")
elif socket.socket().connect_ex(("192.0.2.1", 9)) != errno.ENETUNREACH:
    print("its network is not cut off")
else:
    print("confined")
"""


class SandboxError(FusionError):
    """This host cannot confine a program; the message says what it lacks."""

    status = 503
    code = "sandbox_unavailable"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use.

    Attributes:
        cpu_seconds: Of each of its processes.
        wall_seconds: Of the whole, several times the CPU's: the machine may be busy.
        memory_bytes: Address space of each process.
        processes: And threads, at one time.
        files: Open at one time.
        file_bytes: Of one file, and of the scratch folder.
        output_bytes: Standard output and standard error together.
    """

    cpu_seconds: int = 5
    wall_seconds: float = 20.0
    memory_bytes: int = 512 << 20
    processes: int = 8
    files: int = 64
    file_bytes: int = 16 << 20
    output_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended.

    Attributes:
        ended: ``finished``: by itself, with exit code 0 or another; ``time``, ``memory``,
            ``output``: over that limit; ``crashed``: by a signal.
        code: Its exit code, minus the signal where one ended it, None where we did.
        output: Its standard output and standard error, as they came.
        seconds: Wall time, with the making of the sandbox.
        cpu_seconds: Of its first process and the children that it waited for; 0 where we ended it.
    """

    ended: Ended
    code: int | None
    output: bytes
    seconds: float
    cpu_seconds: float = 0.0


async def run(
    source: str, *, limits: Limits = Limits(), stdin: bytes = b"", packages: Sequence[str] = ()
) -> Outcome:
    """Run Python source in a sandbox of its own; cancelling kills it with all that it started.

    Args:
        source: Runs as ``__main__``, in the scratch folder.
        limits: What it may use.
        stdin: What it reads.
        packages: Installed pure Python packages, or single modules, that it may import besides
            Python's own; of a module's package it sees nothing else.

    Raises:
        SandboxError: This host cannot confine it; nothing has run.
    """
    refusal = _refusal_of_platform()
    if refusal is not None:
        raise SandboxError(refusal)
    text = source.encode(errors="surrogateescape")
    if len(text) > _MAX_SOURCE_BYTES:
        raise ValueError(f"the program has {len(text)} bytes; the most is {_MAX_SOURCE_BYTES}")
    started = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *_command(len(text), limits, tuple(packages)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={},
        cwd="/",
        start_new_session=True,
    )
    output, report = bytearray(), bytearray()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_feed(process, text + stdin))
            tasks.create_task(_collect(process, output, limits.output_bytes))
            tasks.create_task(_read_report(process, report))
            tasks.create_task(_watch(process, limits.wall_seconds + _SETUP_SECONDS))
    finally:
        await _end(process)
    words = report.decode(errors="replace").strip()
    return _outcome(words, bytes(output), limits, time.monotonic() - started)


@functools.cache
def why_unavailable() -> str | None:
    """Say why this host cannot confine a program, None where it can.

    The first call starts a sandbox to find out, which takes about 0.1 s; later ones remember.
    """
    refusal = _refusal_of_platform()
    if refusal is not None:
        return refusal
    seen = {"dev", "main.py", "scratch", "tmp"} | {path.split("/")[1] for path, _ in _files(())}
    seen -= {"etc", "lib", "lib32", "lib64", "libx32", "nix"}
    source = _PROBE.replace("SEEN", repr(sorted(seen))).encode()
    limits = Limits()
    try:
        done = subprocess.run(
            _command(len(source), limits, ()),
            input=source,
            capture_output=True,
            env={},
            cwd="/",
            start_new_session=True,
            timeout=limits.wall_seconds + _SETUP_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"a sandbox cannot be tried: {error}"
    try:
        words = done.stderr.decode(errors="replace").strip()
        outcome = _outcome(words, done.stdout, limits, 0.0)
    except SandboxError as error:
        return str(error)
    told = outcome.output.decode(errors="replace").strip()
    return None if told == "confined" else f"a sandbox does not confine: {told}"


def _refusal_of_platform() -> str | None:
    if sys.platform != "linux":
        return f"programs are confined by Linux namespaces; this machine runs {sys.platform}"
    return None


def _command(source_bytes: int, limits: Limits, packages: tuple[str, ...]) -> list[str]:
    job = {
        "source_bytes": source_bytes,
        "wall_seconds": limits.wall_seconds,
        "scratch_bytes": limits.file_bytes,
        "files": _files(packages),
        "links": _links(),
        # As -I, but for the environment, which is all ours and sets the seed of hashes.
        "argv": [_interpreter(), "-s", "-S", "-P", "-B", "/main.py"],
        "env": sorted(
            {
                "HOME": "/scratch",
                "LANG": "C.UTF-8",
                "PATH": "/nowhere",
                "PYTHONHASHSEED": "0",
                "PYTHONPATH": _PACKAGES,
                "PYTHONUTF8": "1",
                "TMPDIR": "/scratch",
                "TZ": "UTC",
            }.items()
        ),
        "limits": [
            ("CPU", limits.cpu_seconds),
            ("AS", limits.memory_bytes),
            ("NPROC", limits.processes + 1),  # the sandbox's init is one
            ("NOFILE", limits.files),
            ("FSIZE", limits.file_bytes),
            ("CORE", 0),
            ("MEMLOCK", 0),
            ("MSGQUEUE", 0),
        ],
    }
    flags = ["-I", "-S", str(_LAUNCHER), str(os.getpid())]
    return [_interpreter(), *flags, json.dumps(job)]


def _interpreter() -> str:
    return os.path.realpath(sys.executable)


@functools.cache
def _files(packages: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return what the sandbox shows of the host, as (path inside, path outside)."""
    folders = ["/lib", "/lib32", "/lib64", "/libx32", "/usr/lib", "/usr/lib32", "/usr/lib64"]
    shown = [folder for folder in folders if os.path.isdir(folder) and not os.path.islink(folder)]
    shown += ["/etc/ld.so.cache", "/usr/share/zoneinfo", _interpreter()]
    base = {"platbase": sys.base_exec_prefix}  # not the virtual environment's
    shown += [sysconfig.get_path(name, vars=base) for name in ("stdlib", "platstdlib")]
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        library = sysconfig.get_config_var("INSTSONAME")
        shown.append(os.path.join(sysconfig.get_config_var("LIBDIR"), library))
    # A path below one that is shown already would be mounted twice.
    pairs = {path: os.path.realpath(path) for path in sorted(shown) if os.path.exists(path)}
    for path in list(pairs):
        if any(str(parent) in pairs for parent in Path(path).parents):
            del pairs[path]
    for package in packages:
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            raise SandboxError(f"the package {package} is not installed: pip install {package}")
        inside, outside = f"{_PACKAGES}/{package.replace('.', '/')}", found.origin
        if found.submodule_search_locations:
            outside = os.path.dirname(outside)
        else:
            inside += ".py"
        pairs[inside] = os.path.realpath(outside)
    return list(pairs.items())


@functools.cache
def _links() -> list[tuple[str, str]]:
    folders = ("/lib", "/lib32", "/lib64", "/libx32")
    return [(folder, os.readlink(folder)) for folder in folders if os.path.islink(folder)]


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(data)
        await process.stdin.drain()
        process.stdin.close()
        await process.stdin.wait_closed()
    except ConnectionError:
        return  # it ended without reading all


async def _collect(process: asyncio.subprocess.Process, output: bytearray, most: int) -> None:
    assert process.stdout is not None
    while piece := await process.stdout.read(_CHUNK):
        if len(output) <= most:
            output += piece
            if len(output) > most:
                _signal(process, signal.SIGTERM)


async def _read_report(process: asyncio.subprocess.Process, report: bytearray) -> None:
    assert process.stderr is not None
    report += await process.stderr.read()


async def _watch(process: asyncio.subprocess.Process, patience: float) -> None:
    """Wait for the end; kill a launcher that does not keep its own time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(patience):
            await process.wait()
    _signal(process, signal.SIGKILL)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the launcher, which ends the sandbox first; a second cancellation kills both at once."""
    if process.returncode is not None:
        return
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    _signal(process, signal.SIGTERM)
    try:
        async with asyncio.timeout(_SETUP_SECONDS):
            while await process.stdout.read(_CHUNK):  # a full pipe would hide its end
                pass
            await process.wait()
    finally:
        _signal(process, signal.SIGKILL)  # its death is init's, and so the sandbox's


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        process.send_signal(number)


def _outcome(report: str, output: bytes, limits: Limits, seconds: float) -> Outcome:
    kind, _, rest = report.partition(" ")
    if kind != "ended":
        raise SandboxError(
            f"this host cannot confine a program: {rest or report or 'the launcher died'}. "
            "It needs user namespaces: kernel.unprivileged_userns_clone=1, "
            "kernel.apparmor_restrict_unprivileged_userns=0, or a container that may make them"
        )
    how, number, cpu = rest.split()
    code: int | None = int(number)
    ended: Ended = "finished"
    if len(output) > limits.output_bytes:
        output, ended, code = output[: limits.output_bytes], "output", None
    elif how in ("time", "stopped"):
        ended, code = "time", None
    elif how == "killed":
        code = -int(number)
        is_late = code == -signal.SIGXCPU or float(cpu) >= limits.cpu_seconds
        ended = "time" if is_late else "crashed"
    elif code and _last_line(output).startswith("MemoryError"):
        ended = "memory"
    return Outcome(ended, code, output, seconds, float(cpu))


def _last_line(output: bytes) -> str:
    lines = output[-4096:].decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
