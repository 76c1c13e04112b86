"""The packages of a bundle, locked: each with its version, in a wheel that the target can install.

For a target like this machine the lock is what is installed here, which has been tried; for another
one pip resolves it. What cannot be had is listed with pip's reason, never left out in silence.
"""

import subprocess
import sys
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from localfusion.bundle.form import Missing, Target
from localfusion.bundle.own_wheel import write_own_wheel
from localfusion.errors import BundleError

BREAKS_VLLM_CPU = frozenset({"torchvision", "torchaudio", "torchcodec", "triton"})
"""vllm-cpu asks for them, built for another torch; with them `import vllm` dies."""

_GLIBC = range(17, 35)
"""manylinux_2_17 to 2_34, which vLLM and torch are built for."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package of the bundle, as its own metadata describes it."""

    file: Path
    name: str
    version: str
    license: str


def collect_wheels(target: Target, extras: Sequence[str], folder: Path) -> list[Missing]:
    """Put the wheels of localfusion and its extras into ``folder``; what lies there is used.

    Raises:
        BundleError: pip cannot be run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.whl"):
        if not zipfile.is_zipfile(file):
            file.unlink()  # cut when an earlier run was killed
    own = write_own_wheel(folder)
    if target == Target.here(target.accelerator):
        pins, absent = lock_here(extras)
        if not any(name in pins for name in ("vllm", "vllm-cpu")):
            absent.append(Missing(f"vLLM ({target.accelerator})", "it is not installed here"))
        return [*absent, *_download_pins(pins, folder)]
    return _resolve(target, extras, own, folder)


def lock_here(extras: Iterable[str]) -> tuple[dict[str, str], list[Missing]]:
    """Return what localfusion needs at the versions that are installed here, and what is not."""
    pins: dict[str, str] = {}
    missing: dict[str, Missing] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [("localfusion", extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen or name in BREAKS_VLLM_CPU:
            continue
        seen.add((name, extra))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            missing[name] = Missing(name, "needed, and not installed here; run scripts/install")
            continue
        pins[name] = found.version
        for line in found.requires or ():
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                wanted = canonicalize_name(need.name)
                waiting += [(str(wanted), more) for more in ("", *sorted(need.extras))]
    del pins["localfusion"]
    return dict(sorted(pins.items())), list(missing.values())


def _download_pins(pins: dict[str, str], folder: Path) -> list[Missing]:
    """Fetch wheels one by one only where all at once fails, to tell which one it is."""
    have = {(wheel.name, wheel.version) for wheel in read_wheels(folder)}
    wanted = [f"{name}=={version}" for name, version in pins.items() if (name, version) not in have]
    if not wanted or _pip(folder, ["--no-deps", *wanted]) is None:
        return []
    found = ((item, _pip(folder, ["--no-deps", item])) for item in wanted)
    return [Missing(item, why) for item, why in found if why is not None]


def _resolve(target: Target, extras: Sequence[str], own: Path, folder: Path) -> list[Missing]:
    machine = target.platform.removeprefix("linux-")
    digits = target.python.replace(".", "")
    tags = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC]
    options = ["--python-version", target.python, "--implementation", "cp"]
    for tag in (*tags, f"manylinux2014_{machine}", f"linux_{machine}"):
        options += ["--platform", tag]
    for abi in (f"cp{digits}", "abi3", "none"):
        options += ["--abi", abi]
    why = _pip(folder, [*options, f"{own}[{','.join(extras)}]"])
    if target.accelerator == "cpu":
        for wheel in read_wheels(folder):
            if wheel.name in BREAKS_VLLM_CPU:
                wheel.file.unlink()
    what = f"packages for Python {target.python}, {target.platform}, {target.accelerator}"
    return [] if why is None else [Missing(what, why)]


def _pip(folder: Path, arguments: Sequence[str]) -> str | None:
    """Run ``pip download``; return None, or why it failed."""
    fixed = ["--disable-pip-version-check", "download", "--quiet", "--only-binary", ":all:", "-d"]
    command = [sys.executable, "-m", "pip", *fixed, str(folder), *arguments]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BundleError(f"{sys.executable} -m pip cannot be run: {error}") from error
    if ended.returncode == 0:
        return None
    lines = [line for line in ended.stderr.splitlines() if line.startswith("ERROR")]
    last = ended.stderr.strip().splitlines()[-1:] or [f"pip ended with code {ended.returncode}"]
    return (lines or last)[0].removeprefix("ERROR: ")


def read_wheels(folder: Path) -> list[Wheel]:
    """Describe the wheels of a folder, by name.

    Raises:
        BundleError: one that is no wheel.
    """
    return [_read_wheel(file) for file in sorted(folder.glob("*.whl"))]


def _read_wheel(file: Path) -> Wheel:
    try:
        name, version, _, _ = parse_wheel_filename(file.name)
        with zipfile.ZipFile(file) as archive:
            entry = next(
                item
                for item in archive.namelist()
                if item.count("/") == 1 and item.endswith(".dist-info/METADATA")
            )
            head = HeaderParser().parsestr(archive.read(entry).decode())
    except (ValueError, zipfile.BadZipFile, StopIteration, KeyError) as error:
        raise BundleError(f"{file} is no wheel: {error}; delete it and create again") from error
    return Wheel(file, str(name), str(version), _license(head.items()))


def _license(fields: Iterable[tuple[str, str]]) -> str:
    """Return the license that a package names: its expression, its classifiers, its first line."""
    classifiers, free = [], ""
    for key, value in fields:
        if key == "License-Expression":
            return value
        if key == "Classifier" and value.startswith("License :: "):
            classifiers.append(value.rpartition(" :: ")[2])
        if key == "License" and value.strip():
            free = value.strip().splitlines()[0][:100]
    return "; ".join(classifiers) or free or "unknown"
