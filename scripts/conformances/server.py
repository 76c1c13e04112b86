"""The server under test: ``localfusion serve`` on one simulated engine, or on the demo models."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CLIENTS = ROOT / "tests" / "conformance"
ENGINE_PORT = "ENGINE_PORT"
"""Stands in models.yaml of the suites for the simulated engine's."""
START_SECONDS = {False: 30.0, True: 600.0}
STOP_SECONDS = 60.0
PAUSE = 0.1

_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServerError(Exception):
    """The server under test is gone, or does not come; its last lines."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers.

    Attributes:
        url: Without ``/v1``.
        log: What the server and its engine print.
    """

    url: str
    log: Path
    processes: tuple[subprocess.Popen[bytes], ...]

    def status(self, path: str, *, is_post: bool = False) -> int:
        """Return the status of a request with an empty body."""
        request = urllib.request.Request(self.url + path, data=b"{}" if is_post else None)
        request.add_header("content-type", "application/json")
        try:
            with _NO_PROXY.open(request, timeout=10) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def check(self) -> None:
        """Refuse to go on with a server that is gone.

        Raises:
            ServerError: a process has ended; its last lines.
        """
        if any(process.poll() is not None for process in self.processes):
            raise ServerError(f"the server ended:\n{self._tail()}")

    def wait(self, seconds: float) -> None:
        """Return once it can answer.

        Raises:
            ServerError: it ended, or cannot in time.
        """
        deadline = time.monotonic() + seconds
        while not self._is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise ServerError(f"not ready after {seconds:.0f} s:\n{self._tail()}")
            time.sleep(PAUSE)  # noqa: TID251  nothing else runs here, and HTTP has no event for it

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def _is_ready(self) -> bool:
        try:
            return self.status("/ready") == 200
        except urllib.error.URLError:
            return False


@contextmanager
def serve(folder: Path, *, is_real: bool) -> Iterator[Server]:
    """Serve for the length of a block, with files in ``folder``."""
    log = folder / "server.log"
    config = folder / "models.yaml"
    port = free_port()
    command = [sys.executable, "-m", "localfusion", "serve", "--port", str(port)]
    engine_port = free_port()
    engine = [sys.executable, str(Path(__file__).parent / "engine.py"), str(engine_port)]
    commands = [command] if is_real else [engine, command]
    text = (CLIENTS / ("aliases.yaml" if is_real else "models.yaml")).read_text()
    if is_real:
        text = (ROOT / "models.yaml").read_text() + text
    config.write_text(text.replace(ENGINE_PORT, str(engine_port)))
    with ExitStack() as stack:
        out = stack.enter_context(log.open("wb"))
        processes = tuple(
            stack.enter_context(_process(command, config, out.fileno())) for command in commands
        )
        server = Server(f"http://127.0.0.1:{port}", log, processes)
        server.wait(START_SECONDS[is_real])
        yield server


@contextmanager
def _process(command: Sequence[str], config: Path, out: int) -> Iterator[subprocess.Popen[bytes]]:
    place = {"LOCALFUSION_CONFIG": str(config), "LOCALFUSION_STATE": str(config.parent)}
    environment = os.environ | place
    with subprocess.Popen(command, stdout=out, stderr=out, env=environment) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def free_port() -> int:
    """Return a port of loopback that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return int(bound.getsockname()[1])
