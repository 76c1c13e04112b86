"""Install a bundle where there is no network: verified first, then whole or not at all.

``INTO/DIGEST`` holds what a bundle brought, with a Python environment of its own; ``INTO/current``
is a link to the one in use. Everything is made in ``INTO/.partial-DIGEST`` and renamed, then the
link is replaced: a power cut leaves the old one in use, and the next install sweeps the rest.

Standard library only.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from localfusion.bundle.check import Bundle, Count, read_pieces, verify
from localfusion.bundle.form import MANIFEST, BundleFile, Target
from localfusion.bundle.hold import holding
from localfusion.durable import flush, write_whole
from localfusion.errors import BundleError

CURRENT = "current"
WHEELS = "wheels"
REQUIREMENTS = "requirements.txt"

_LAUNCHER = """\
#!/bin/sh
# localfusion as the bundle brought it: its own Python, weights and models.yaml.
here=$(dirname "$(dirname "$(readlink -f "$0")")")
: "${LOCALFUSION_CACHE:=$here/cache}" "${LOCALFUSION_CONFIG:=$here/models.yaml}"
export LOCALFUSION_CACHE LOCALFUSION_CONFIG PYTHONNOUSERSITE=1
exec "$here/venv/bin/python" -I -m localfusion "$@"
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """What an install came to.

    Attributes:
        folder: The installation; ``INTO/current`` links to it.
        was_there: Nothing was done: the same bundle is in use already.
        older: Installations that are not in use any more and may be deleted.
    """

    folder: Path
    was_there: bool
    older: tuple[Path, ...]


def free_bytes_at(folder: Path) -> int:
    """Return the free bytes of the file system that holds ``folder``."""
    return shutil.disk_usage(folder).free


def install(
    folder: Path,
    into: Path,
    *,
    count: Count = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
    free_bytes: Callable[[Path], int] = free_bytes_at,
) -> Installed:
    """Verify a bundle and install it.

    Args:
        folder: The bundle.
        into: Where installations lie; made if need be.
        count: Gets the bytes of each piece that is verified.
        say: Told about each step.
        free_bytes: Answers how much is free on the disk of a folder.

    Raises:
        BundleError: damaged, for another machine, incomplete, no room, or a step that failed; what
            was in use before still is, and nothing else is left.
    """
    say("verifying")
    bundle = verify(folder, count)
    _check_machine(bundle)
    with holding(into):
        home = into.resolve() / bundle.digest[:12]
        stage = home.with_name(f".partial-{home.name}")
        for left in home.parent.glob(".partial-*"):
            _remove(left)  # of an install that was cut
        is_new = not (_is_whole(home, bundle) and _is_sound(home, bundle))
        if is_new:
            _check_room(bundle, home.parent, free_bytes)
            _make(bundle, stage, home, say)
        was_there = not is_new and (home.parent / CURRENT).resolve() == home
        if not was_there:
            _switch(home)
        return Installed(home, was_there=was_there, older=_older(home))


def _check_machine(bundle: Bundle) -> None:
    wanted = bundle.manifest.target
    here = Target.here(wanted.accelerator)
    if wanted.platform != here.platform:
        raise BundleError(
            f"{bundle.folder} is for {wanted.platform}, this machine is {here.platform}; make one "
            f"with: localfusion bundle create --platform {here.platform}"
        )
    if wanted.python != here.python:
        raise BundleError(
            f"{bundle.folder} is for Python {wanted.python}, this is Python {here.python} "
            f"({sys.executable}); run it with python{wanted.python}, or make a bundle with: "
            f"localfusion bundle create --python {here.python}"
        )
    if not any(file.path == REQUIREMENTS for file in bundle.manifest.files):
        why = "; ".join(f"{item.what}: {item.why}" for item in bundle.manifest.missing)
        raise BundleError(f"{bundle.folder} cannot be installed, packages are missing: {why}")


def _is_whole(home: Path, bundle: Bundle) -> bool:
    """Say whether this bundle's installation is there; its manifest is written last."""
    file = home / MANIFEST
    return file.is_file() and file.read_bytes() == bundle.manifest_file.read_bytes()


def _is_sound(home: Path, bundle: Bundle) -> bool:
    """Say whether the weights of an installation are still what the bundle brought."""
    try:
        _prove(home, bundle, "verify")
    except BundleError:
        return False
    return True


def _check_room(bundle: Bundle, into: Path, free_bytes: Callable[[Path], int]) -> None:
    unpacked = bundle.manifest.size
    for file in bundle.manifest.of_kind("wheel"):
        # A wheel unpacks to two or three times its size; one in one piece tells exactly.
        unpacked += _unpacked(bundle, file)
    free = free_bytes(into)
    if free < unpacked:
        raise BundleError(
            f"{bundle.folder} needs {unpacked / 1e9:.1f} GB in {into}, where {free / 1e9:.1f} GB "
            "are free; make room, or name another folder with --into"
        )


def _unpacked(bundle: Bundle, file: BundleFile) -> int:
    if len(file.pieces) > 1:
        return 3 * file.size
    try:
        with zipfile.ZipFile(bundle.folder / file.pieces[0].path) as archive:
            return sum(item.file_size for item in archive.infolist())
    except (zipfile.BadZipFile, OSError) as error:
        raise BundleError(f"{file.path} is no wheel: {error}; make the bundle again") from error


def _make(bundle: Bundle, stage: Path, home: Path, say: Callable[[str], None]) -> None:
    damaged = stage.with_name(f"{stage.name}-old")
    try:
        _fill(bundle, stage, home, say)
        if home.exists():
            home.rename(damaged)
        stage.rename(home)
        say("reading the weights once more where they lie now")
        _prove(home, bundle, "pull")
        write_whole(home / MANIFEST, bundle.manifest_file.read_bytes())
        flush(home)
    except OSError as error:
        _undo(stage, home, damaged)
        raise BundleError(
            f"installing into {home.parent} failed: {error.strerror or error}; nothing of it is "
            "left, and what was in use before still is"
        ) from error
    except BaseException:
        _undo(stage, home, damaged)
        raise
    _remove(damaged)


def _undo(stage: Path, home: Path, damaged: Path) -> None:
    if stage.exists():
        _remove(stage)
    else:
        _remove(home)
    if damaged.exists():
        damaged.rename(home)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _fill(bundle: Bundle, stage: Path, home: Path, say: Callable[[str], None]) -> None:
    stage.mkdir(mode=0o755)
    say("copying weights, settings and packages")
    for file in bundle.manifest.files:
        target = stage / _place(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as stream:
            for chunk in read_pieces(bundle, file):  # compares what it reads, as `verify` did
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
    say("making a Python environment")
    _run([sys.executable, "-I", "-m", "venv", str(stage / "venv")], "python -m venv")
    say("installing packages without any index")
    python = stage / "venv" / "bin" / "python"
    options = ["--no-index", "--no-deps", "--require-hashes", "--no-cache-dir", "--no-compile"]
    _run(
        [
            *(str(python), "-I", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"),
            *(*options, "--find-links", str(stage / WHEELS), "-r", str(stage / REQUIREMENTS)),
        ],
        "pip",
    )
    shutil.rmtree(stage / WHEELS)
    _move_scripts(stage, home)
    launcher = stage / "bin" / "localfusion"
    launcher.parent.mkdir()
    launcher.write_text(_LAUNCHER)
    launcher.chmod(0o755)


def _place(file: BundleFile) -> str:
    return f"cache/{file.path}" if file.kind == "weights" else file.path


def _move_scripts(stage: Path, home: Path) -> None:
    """Name the final folder in what names the staging one: first lines of scripts, pyvenv.cfg."""
    old, new = os.fsencode(stage), os.fsencode(home)
    scripts = [path for path in (stage / "venv" / "bin").iterdir() if not path.is_symlink()]
    for path in (*scripts, stage / "venv" / "pyvenv.cfg"):
        if path.is_file() and old in (content := path.read_bytes()):
            path.write_bytes(content.replace(old, new))


def _prove(home: Path, bundle: Bundle, command: str) -> None:
    """Let the installed localfusion read every model where it lies.

    ``pull`` fetches nothing that is there, and writes down what every later start compares with.
    """
    if bundle.manifest.models:
        launcher = str(home / "bin" / "localfusion")
        _run([launcher, "models", command, *bundle.manifest.models], "the installed localfusion")


def _run(command: list[str], name: str) -> None:
    """Run a program of ours: no index, no settings of the user's or the machine's pip."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON", "LOCALF"))}
    env = {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INPUT": "1", "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        lines = [line for line in (ended.stderr + ended.stdout).splitlines() if line.strip()]
        said = next(
            (line for line in lines if line.startswith("ERROR")), lines[-1] if lines else ""
        )
        raise BundleError(
            f"{name} failed (code {ended.returncode}): {said or 'it said nothing'}; nothing is "
            "left of this install, and what was in use before still is"
        )


def _switch(home: Path) -> None:
    """Put the new installation into use in one step."""
    link = home.parent / f".partial-{CURRENT}"
    link.unlink(missing_ok=True)
    link.symlink_to(home.name)
    link.replace(home.parent / CURRENT)
    flush(home.parent)


def _older(home: Path) -> tuple[Path, ...]:
    others = (path for path in home.parent.iterdir() if (path / MANIFEST).is_file())
    return tuple(sorted(p for p in others if not p.is_symlink() and p != home))
