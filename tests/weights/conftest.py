"""A cache of its own for every test, and pip without an index."""

from pathlib import Path

import pytest

from localfusion.config import Config
from tests.weights.places import write_config, write_converter


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder that LOCALFUSION_CACHE names."""
    monkeypatch.setenv("LOCALFUSION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return tmp_path / "cache"


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Folder of the converting interpreter; files in it steer it (places.py)."""
    return write_converter(tmp_path / "tools").parent


@pytest.fixture
def gguf(tmp_path: Path, tools: Path) -> Config:
    """A configuration with one model ``m`` from a GGUF file on disk."""
    (tmp_path / "m.gguf").write_bytes(b"GGUF of m")
    source = {"source": {"gguf": "m.gguf"}}
    return write_config(tmp_path, {"m": source}, engine_python=str(tools / "python"))
