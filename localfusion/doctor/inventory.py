"""Say as JSON what an interpreter has installed; nothing heavy is imported.

A program of its own, run in the engines' interpreter: needs the standard library of any Python 3.9.
``python -I inventory.py PACKAGE…``
"""

import importlib.metadata
import importlib.util
import json
import platform
import runpy
import sys
from pathlib import Path
from typing import Optional


def main() -> None:
    torch = importlib.util.find_spec("torch")
    folder = Path(torch.origin).parent if torch is not None and torch.origin else None
    found = {
        "python": platform.python_version(),
        "packages": {name: version for name in sys.argv[1:] if (version := _version(name))},
        "torch_cuda": _torch_cuda(folder),
        "openmp": _openmp(folder),
    }
    print(json.dumps(found))  # noqa: T201  its output is its purpose


def _version(name: str) -> Optional[str]:  # noqa: UP045  the interpreter may be older than ours
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch_cuda(folder: Optional[Path]) -> Optional[str]:  # noqa: UP045  as above
    """Return the CUDA version that torch was built for, None for a build without."""
    file = None if folder is None else folder / "version.py"
    if file is None or not file.is_file():
        return None
    cuda = runpy.run_path(str(file)).get("cuda")
    return None if cuda is None else str(cuda)


def _openmp(folder: Optional[Path]) -> Optional[str]:  # noqa: UP045  as above
    """Return the name of the OpenMP library that came with torch."""
    patterns = ("libgomp*", "libiomp*", "libomp*")
    found = [path.name for p in patterns for path in (folder / "lib").glob(p)] if folder else []
    return found[0] if found else None


if __name__ == "__main__":
    main()
