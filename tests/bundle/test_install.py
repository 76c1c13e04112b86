"""Installs are verified first, then whole or not at all; every fault is named and leaves no trace.

The installer is run as on an empty machine (``-I -S``: the standard library and nothing else).
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from localfusion.bundle.check import open_bundle, verify
from localfusion.bundle.create import Wish, create
from localfusion.bundle.form import Target
from localfusion.bundle.install import install
from localfusion.errors import BundleError
from tests.bundle.places import (
    configure,
    edit,
    flip,
    make,
    make_installable,
    run_installer,
    weights_file,
)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def link(file: Path) -> None:
    moved = file.rename(file.parent.parent.parent.parent / "elsewhere")
    file.symlink_to(moved)


def add(file: Path) -> None:
    (file.parent / "modeling.py").write_text("print()")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (flip, r"model\.safetensors differs"),
        (cut, r"model\.safetensors has 79 bytes, the manifest says"),
        (Path.unlink, r"model\.safetensors is missing"),
        (link, r"model\.safetensors is no plain file"),
        (add, r"modeling\.py is not in the manifest"),
    ],
)
def test_bundle_that_changed_is_refused_by_name(
    tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    made = make(tmp_path)
    change(weights_file(made.folder))
    said = said.replace("79 bytes", r"\d+ bytes")

    with pytest.raises(BundleError, match=said):
        install(made.folder, tmp_path / "into")

    assert not (tmp_path / "into").exists()


def test_installer_that_changed_is_refused(tmp_path: Path) -> None:
    made = make(tmp_path)
    flip(made.folder / "install.pyz")

    with pytest.raises(BundleError, match=r"install\.pyz differs"):
        verify(made.folder)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a//b", "a/../../b", "", "."])
def test_manifest_cannot_name_a_path_outside(tmp_path: Path, path: str) -> None:
    made = make(tmp_path)

    def change(document: dict[str, object]) -> None:
        document["files"][0]["path"] = path  # type: ignore[index]

    edit(made.folder, change)

    with pytest.raises(BundleError, match="impossible path"):
        verify(made.folder)


def test_missing_volume_is_named(tmp_path: Path) -> None:
    config = configure(tmp_path)
    target = Target.here("cpu")
    wish = Wish(("p",), tmp_path / "b", target, with_wheels=False, volume_bytes=65536)
    made = create(config, wish)
    assert made.manifest.volumes > 2
    shutil.rmtree(made.folder / "volume-02")

    with pytest.raises(BundleError, match=r"volume-02 of \d+ volumes is missing"):
        verify(made.folder)
    with pytest.raises(BundleError, match=r"is one of \d+ volumes"):
        open_bundle(made.folder / "volume-01")


@dataclass(frozen=True)
class Box:
    """A machine with a bundle and its installation; every test leaves one that is whole in use."""

    bundle: Path
    into: Path

    @property
    def current(self) -> Path:
        return (self.into / "current").resolve()

    def left(self) -> list[Path]:
        return list(self.into.glob(".partial-*"))


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Box:
    """Install once by install.pyz, for it takes seconds."""
    root = tmp_path_factory.mktemp("box")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCALFUSION_CACHE", str(root / "cache"))
        bundle = make_installable(root)
    ended = run_installer(bundle, "install", str(bundle), "--into", str(root / "into"))
    assert ended.returncode == 0, ended.stderr
    return Box(bundle, root / "into")


def test_installed_command_knows_its_weights_and_its_folder(box: Box) -> None:
    command: list[str | Path] = [
        box.into / "current" / "bin" / "localfusion",
        "models",
        "list",
        "--json",
    ]

    listed = subprocess.run(command, env={}, capture_output=True, text=True, check=True)

    assert '"state": "verified"' in listed.stdout
    assert str(box.current) in (box.current / "venv" / "bin" / "pip").read_text()
    assert box.left() == []


def test_damaged_installation_is_made_anew_and_a_whole_one_is_left_alone(box: Box) -> None:
    install(box.bundle, box.into)
    flip(box.current / "cache" / "own" / "m" / "model.safetensors")

    mended, again = install(box.bundle, box.into), install(box.bundle, box.into)

    assert (mended.was_there, again.was_there) == (False, True)
    assert box.left() == []


def test_new_bundle_takes_over_and_the_old_installation_is_named(box: Box, tmp_path: Path) -> None:
    before = box.current

    second = install(make_installable(tmp_path, accelerator="gpu"), box.into)

    assert before in second.older
    assert box.current == second.folder


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            {"python": "3.99"},
            r"is for Python 3\.99, this is Python 3\.\d+ .*run it with python3\.99",
        ),
        ({"platform": "linux-riscv64"}, r"is for linux-riscv64, this machine is .*--platform"),
    ],
)
def test_bundle_for_another_machine_is_refused(
    tmp_path: Path, target: dict[str, str], said: str
) -> None:
    bundle = make_installable(tmp_path, wheel=None, **target)

    with pytest.raises(BundleError, match=said):
        install(bundle, tmp_path / "into")

    assert not (tmp_path / "into").exists()


def test_bundle_without_packages_says_which_are_missing(tmp_path: Path) -> None:
    made = make(tmp_path)

    with pytest.raises(BundleError, match="packages are missing: packages: left out"):
        install(made.folder, tmp_path / "into")


def test_full_disk_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    bundle = make_installable(tmp_path)

    with pytest.raises(BundleError, match=r"needs .* GB in .* are free; make room"):
        install(bundle, tmp_path / "into", free_bytes=lambda _: 10)

    assert list((tmp_path / "into").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_disk_that_is_full_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    bundle = make_installable(tmp_path)
    (tmp_path / "disk").mkdir()
    # Bytes enough, so that it begins, but only a few files.
    script = (
        'mount -t tmpfs -o size=1g,nr_inodes=20 tmpfs "$1" && "$2" -I -S "$3/install.pyz" install '
        '"$3" --into "$1/into"; echo "code $?"; ls -A "$1/into"'
    )
    command: list[str | Path] = [
        "unshare",
        "-m",
        "sh",
        "-c",
        script,
        "sh",
        tmp_path / "disk",
        sys.executable,
        bundle,
    ]

    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ended.stdout == "code 2\n"
    assert "No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_package_that_pip_refuses_leaves_the_old_installation_in_use(
    box: Box, tmp_path: Path
) -> None:
    before, names = box.current, sorted(box.into.iterdir())
    broken = make_installable(tmp_path, wheel=b"PK\x05\x06" + bytes(18))

    with pytest.raises(BundleError, match=r"pip failed \(code"):
        install(broken, box.into)

    assert (box.current, sorted(box.into.iterdir())) == (before, names)


def test_killed_install_leaves_the_old_one_in_use_and_the_next_sweeps(
    box: Box, tmp_path: Path
) -> None:
    before = box.current
    bundle = make_installable(tmp_path, accelerator="gpu")
    edit(bundle, lambda document: document.update(presets=["p", "another"]))
    command: list[str | Path] = [
        sys.executable,
        "-I",
        "-S",
        bundle / "install.pyz",
        "install",
        bundle,
    ]
    with subprocess.Popen(
        [*command, "--into", box.into], stderr=subprocess.DEVNULL, start_new_session=True
    ) as running:
        while not list(box.into.glob(".partial-*/venv")):
            assert running.poll() is None, "it ended before it could be killed"
            threading.Event().wait(0.005)
        os.killpg(running.pid, signal.SIGKILL)

    assert box.left()
    assert box.current == before
    assert install(bundle, box.into).folder == box.current
    assert box.left() == []
