"""``localfusion serve`` as users run it: real vLLM engines on the demo models, started once."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import openai
import psutil
import pytest

from localfusion.config import cache_dir, load
from localfusion.engines.openai import OpenAIEngine

START_SECONDS = 600
PRESETS = ("--preset", "demo", "--preset", "demo-large")
ROOT = Path(__file__).parent.parent.parent


@dataclass
class Server:
    """The running gateway.

    Attributes:
        run: Folder that holds its run directory, and with it the engines' sockets.
    """

    process: "subprocess.Popen[bytes]"
    port: int
    run: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def models(self) -> tuple[str, ...]:
        return load(ROOT / "models.yaml").settings.presets["demo-large"].models

    def engine(self, model: str) -> OpenAIEngine:
        """Reach one of its engines behind its back."""
        return OpenAIEngine(model, uds=next(self.run.glob(f"localfusion-*/{model}.sock")))

    @property
    def family(self) -> list[psutil.Process]:
        return [psutil.Process(self.process.pid), *self.children]

    @property
    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture(scope="session")
def server(free_port: Callable[[], int]) -> Iterator[Server]:
    """Serve both demo presets until the tests are over; in the end nothing may be left."""
    with tempfile.TemporaryDirectory(prefix="lf") as folder:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("LOCALFUSION")}
        # The tests' own switches; the models are those of the user's cache.
        place = {"TMPDIR": folder, "LOCALFUSION_STATE": folder}
        env = {**kept, **place, "LOCALFUSION_CACHE": str(cache_dir())}
        port = free_port()
        command = [sys.executable, "-m", "localfusion", "serve", *PRESETS]
        with subprocess.Popen([*command, "--port", str(port)], env=env, cwd=ROOT) as process:
            running = Server(process, port, Path(folder))
            try:
                _wait_until_ready(running)
                yield running
                children = running.children
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0
                assert [child for child in children if _lives(child)] == []
                assert list(Path(folder).glob("localfusion-*")) == []
            finally:
                process.kill()


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _wait_until_ready(server: Server) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        assert server.process.poll() is None, "it ended before it was ready"
        assert time.monotonic() < until, "it was not ready in time"
        try:
            if httpx2.get(f"{server.url}/ready", trust_env=False).status_code == 200:
                return
        except httpx2.TransportError:
            pass  # it does not listen yet
        threading.Event().wait(0.5)


@pytest.fixture
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        max_retries=0,
        _strict_response_validation=True,
    )
