"""Small real bundles for tests: tiny weights, tiny packages, everything else as users have it."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from localfusion.bundle.create import Created, Wish, create
from localfusion.bundle.form import MANIFEST, BundleFile, Piece, Target, read_manifest
from localfusion.bundle.install import REQUIREMENTS, WHEELS
from localfusion.config import Config
from localfusion.weights import pull
from tests.weights.places import write_config, write_model, write_wheel

# What `models pull` of the installed environment runs in these tests: this localfusion, from here.
PATH_FILE = "localfusion_here.pth"


def configure(folder: Path) -> Config:
    """Write models.yaml with one model in a folder of the user's own, and its license."""
    write_model(folder / "mine")
    (folder / "mine" / "LICENSE").write_text("free")
    source = {"source": {"path": "mine"}, "license": "MIT", "origin": "Tiny Models"}
    config = write_config(folder, {"m": source})
    pull(config, ["m"])
    return config


def make(folder: Path, **wish: object) -> Created:
    """Create a bundle in ``folder/bundle`` without packages."""
    given = {"target": Target.here("cpu"), "with_wheels": False, **wish}
    return create(configure(folder), Wish(("p",), folder / "bundle", **given))  # type: ignore[arg-type]


def make_installable(folder: Path, *, wheel: bytes | None = None, **target: str) -> Path:
    """Create a bundle whose one package makes this localfusion importable where it is installed.

    The real packages are gigabytes; ``scripts/air-gap-test`` installs those.
    """
    made = make(folder, target=replace(Target.here("cpu"), **target))
    paths = "\n".join(path for path in sys.path if path.endswith(("site-packages", str(_root()))))
    file = write_wheel(made.folder / WHEELS, "tiny", {PATH_FILE: f"{_root()}\n{paths}\n".encode()})
    if wheel is not None:
        file.write_bytes(wheel)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (made.folder / REQUIREMENTS).write_text(f"tiny==1.0 --hash=sha256:{digest}\n")
    files = (_entry(made.folder, file, "wheel"), _entry(made.folder, made.folder / REQUIREMENTS))
    manifest = replace(made.manifest, files=(*made.manifest.files, *files), missing=())
    (made.folder / MANIFEST).write_bytes(manifest.render())
    return made.folder


def _root() -> Path:
    return Path(__file__).parent.parent.parent


def _entry(bundle: Path, file: Path, kind: str = "settings") -> BundleFile:
    path, content = file.relative_to(bundle).as_posix(), file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    pieces = (Piece(path, len(content), digest),)
    return BundleFile(
        path, len(content), digest, kind, "test", revision=None, license="MIT", pieces=pieces
    )


def edit(bundle: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Change the manifest as JSON."""
    document = json.loads((bundle / MANIFEST).read_text())
    change(document)
    (bundle / MANIFEST).write_text(json.dumps(document))


def weights_file(bundle: Path) -> Path:
    manifest, _ = read_manifest(bundle / MANIFEST)
    return next(
        bundle / file.pieces[0].path
        for file in manifest.files
        if file.path.endswith("model.safetensors")
    )


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def run_installer(bundle: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run install.pyz as on an empty machine: a bare interpreter, no package of ours."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        [sys.executable, "-I", "-S", str(bundle / "install.pyz"), *arguments],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
