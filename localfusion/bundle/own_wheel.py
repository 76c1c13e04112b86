"""localfusion's own wheel, put together from the files that run: no build tool, no network."""

import base64
import hashlib
import io
import zipfile
from importlib.metadata import distribution
from pathlib import Path

from localfusion import __version__
from localfusion.bundle.form import INSTALLER
from localfusion.durable import write_whole

_PACKAGE = Path(__file__).parent.parent
_WHEN = (2020, 1, 1, 0, 0, 0)  # the same files give the same bytes
_WHEEL = "Wheel-Version: 1.0\nGenerator: localfusion\nRoot-Is-Purelib: true\nTag: py3-none-any\n"

_MAIN = """\
import sys
if sys.version_info < (3, 11):
    sys.exit("install.pyz: this is Python %d.%d; run it with Python 3.11 or newer"
             % sys.version_info[:2])
from localfusion.bundle.start import main
sys.exit(main())
"""
_TRAVELS = (
    "__init__.py",
    "durable.py",
    "errors.py",
    *(f"bundle/{name}.py" for name in ("__init__", "check", "form", "hold", "install", "start")),
)


def beside_package(name: str) -> Path:
    """Return a file or folder that the wheel carries in the package and a checkout beside it."""
    inside = _PACKAGE / name
    return inside if inside.exists() else _PACKAGE.parent / name


def write_own_wheel(folder: Path) -> Path:
    """Write the wheel of the localfusion that runs here."""
    files = {f"localfusion/{path}": content for path, content in _package_files().items()}
    info = f"localfusion-{__version__}.dist-info"
    found = distribution("localfusion")
    for name in ("METADATA", "entry_points.txt"):
        files[f"{info}/{name}"] = (found.read_text(name) or "").encode()
    files[f"{info}/WHEEL"] = _WHEEL.encode()
    record = "".join(
        f"{path},{_digest(content)},{len(content)}\n" for path, content in files.items()
    )
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = folder / f"localfusion-{__version__}-py3-none-any.whl"
    _write_archive(wheel, files)
    return wheel


def _package_files() -> dict[str, bytes]:
    files = {
        path.relative_to(_PACKAGE).as_posix(): path.read_bytes()
        for path in sorted(_PACKAGE.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    for name in ("models.yaml", "LICENSE"):
        files[name] = beside_package(name).read_bytes()
    for page in sorted(beside_package("docs").glob("*.md")):
        files[f"docs/{page.name}"] = page.read_bytes()
    return files


def _digest(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
    return f"sha256={digest.rstrip(b'=').decode()}"


def write_installer(folder: Path) -> str:
    """Write install.pyz, which needs a Python and nothing else; return its SHA-256."""
    files = {f"localfusion/{name}": (_PACKAGE / name).read_bytes() for name in _TRAVELS}
    _write_archive(folder / INSTALLER, {**files, "__main__.py": _MAIN.encode()})
    return hashlib.sha256((folder / INSTALLER).read_bytes()).hexdigest()


def _write_archive(file: Path, files: dict[str, bytes]) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path, _WHEN)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)
    write_whole(file, packed.getvalue())
