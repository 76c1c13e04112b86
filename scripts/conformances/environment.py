"""Where suites are installed: environments of their own in the cache folder, by pinned version."""

import hashlib
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from localfusion.config import cache_dir

_STAMP = "complete"
INSTALL_SECONDS = 1200


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment or a folder with node_modules; suites with the same packages share it.

    Attributes:
        packages: Pinned, as pip or npm take them.
        source: A package whose source distribution is unpacked beside, for its own tests.
    """

    name: str
    packages: tuple[str, ...]
    kind: Literal["python", "node"] = "python"
    source: str | None = None

    @property
    def folder(self) -> Path:
        """A folder for exactly these packages: another version is another folder."""
        words = "\n".join([sys.version, self.kind, *self.packages, self.source or ""])
        digest = hashlib.sha256(words.encode()).hexdigest()[:8]
        return cache_dir() / "conformance" / f"{self.name}-{digest}"

    @property
    def python(self) -> str:
        return str(self.folder / "venv" / "bin" / "python")

    @property
    def modules(self) -> Path:
        return self.folder / "node_modules"

    @property
    def unpacked(self) -> Path:
        """The folder of the unpacked source."""
        assert self.source is not None
        return self.folder / self.source.replace("==", "-")

    def program(self, name: str) -> str:
        """Return the path of a program that a package brought."""
        programs = self.modules / ".bin" if self.kind == "node" else self.folder / "venv" / "bin"
        return str(programs / name)

    def install(self) -> None:
        """Install what is missing; a folder that is not complete is begun anew.

        Raises:
            subprocess.CalledProcessError: pip or npm failed; they said why.
        """
        if (self.folder / _STAMP).exists():
            return
        print(f"installing {', '.join(self.packages)}", file=sys.stderr, flush=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if self.kind == "node":
            self._run("npm", "install", "--silent", "--ignore-scripts", *self.packages)
        else:
            self._run(sys.executable, "-m", "venv", "venv")
            self._run(self.python, "-m", "pip", "install", "-qq", *self.packages)
        if self.source is not None:
            self._unpack(self.source)
        (self.folder / _STAMP).touch()

    def _unpack(self, source: str) -> None:
        package = source.partition("==")[0]
        fetch = ("download", "-qq", "--no-deps", "--no-binary", package, "--dest", ".", source)
        self._run(self.python, "-m", "pip", *fetch)
        archive = next(self.folder.glob("*.tar.gz"))
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4
            shutil.unpack_archive(archive, self.folder, filter="data")
        else:
            shutil.unpack_archive(archive, self.folder)
        archive.unlink()

    def _run(self, *command: str) -> None:
        subprocess.run(command, cwd=self.folder, check=True, timeout=INSTALL_SECONDS)
