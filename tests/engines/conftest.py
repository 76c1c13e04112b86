"""Folders for sockets, a raw server, and an OpenAIEngine that asks it."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from localfusion.engines.openai import OpenAIEngine
from tests.engines.kinds import KINDS, MakeEngine
from tests.engines.raw_server import RawServer, raw_server


@pytest.fixture
def run_dir() -> Iterator[Path]:
    # Not tmp_path: a socket's path has 107 bytes.
    with tempfile.TemporaryDirectory(prefix="lf-") as path:
        yield Path(path)


@pytest.fixture
def short(run_dir: Path) -> Path:
    """Give a folder for run directories, whose path is short enough for sockets."""
    return run_dir


@pytest.fixture
async def server(run_dir: Path) -> AsyncIterator[RawServer]:
    async with raw_server(run_dir / "a.sock") as raw:
        yield raw


@pytest.fixture
async def engine(server: RawServer) -> AsyncIterator[OpenAIEngine]:
    engine = OpenAIEngine("a", uds=server.uds, api_key="secret", idle_timeout=30)
    yield engine
    await engine.aclose()


@pytest.fixture(params=KINDS)
def make_engine(request: pytest.FixtureRequest, run_dir: Path) -> MakeEngine:
    open_engine = KINDS[request.param]
    return lambda script: open_engine(script, run_dir)
