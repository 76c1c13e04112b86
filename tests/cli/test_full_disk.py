"""A served system whose disk is full, where ``traces.required`` asks for a trace of each run."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from tests.cli.conftest import Place
from tests.cli.test_engines import is_ready, wait_for

CHAT = "/v1/chat/completions"
MOUNT = 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"'
ASK = {
    "model": "demo",
    "messages": [{"role": "user", "content": "What do pens cost?"}],
    "fusion": {"include": []},
}
MOST = 200
"""Answers that a database may still take on a full disk, in room that it already has."""


@pytest.fixture
def small_disk(place: Place) -> Path:
    """Give the folder of traces, where a disk of its own can be mounted."""
    folder = place.root / "s" / "traces"
    folder.mkdir(parents=True)
    probe = ("unshare", "-rm", "sh", "-c", MOUNT, str(folder), "true")
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    return folder


@contextmanager
def served(place: Place, folder: Path) -> Iterator[tuple[httpx2.Client, Path]]:
    """Serve simulated engines; tell the folder as the server sees it, on a disk of its own."""
    server = place.start(
        "serve", "--sim", within=("unshare", "-rm", "sh", "-c", MOUNT, str(folder))
    )
    try:
        wait_for(lambda: is_ready(place) or server.poll() is not None)
        assert server.poll() is None, server.communicate()[1]
        url = f"http://127.0.0.1:{place.port}"
        with httpx2.Client(base_url=url, timeout=30, trust_env=False) as http:
            yield http, Path(f"/proc/{server.pid}/root{folder}")
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)


def fill(disk: Path) -> None:
    with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(b"x" * 4096)


@pytest.mark.promise(9)
def test_required_trace_that_finds_no_room_is_never_named_and_runs_are_refused(
    place: Place, small_disk: Path
) -> None:
    place.write(traces={"required": True})
    with served(place, small_disk) as (http, disk):
        before = http.post(CHAT, json=ASK)
        fill(disk)
        answers: list[httpx2.Response] = []
        while (last := http.post(CHAT, json=ASK)).status_code == 200 and len(answers) < MOST:
            answers.append(last)
        streamed = http.post(CHAT, json={**ASK, "stream": True})
        ready, health = http.get("/ready"), http.get("/health")
        kept = {trace["id"] for trace in http.get("/v1/traces?limit=200").json()["data"]}

    named = {answer.json()["fusion"]["trace_id"] for answer in (before, *answers)}
    assert before.headers["x-localfusion-trace"] in named - {None} <= kept
    for refused in (last, streamed):
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "traces_unavailable"
        assert "traces.required asks for one; ask again later" in refused.json()["error"]["message"]
        assert refused.headers["retry-after"] == "10"
    assert (ready.status_code, health.status_code) == (503, 200)
    assert "traces.required" in ready.text


@pytest.mark.promise(10)
def test_full_disk_stops_no_answer_where_traces_are_not_required(
    place: Place, small_disk: Path
) -> None:
    with served(place, small_disk) as (http, disk):
        fill(disk)
        answers = [http.post(CHAT, json=ASK)]
        while answers[-1].json()["fusion"]["trace_id"] is not None and len(answers) < MOST:
            answers.append(http.post(CHAT, json=ASK))
        notes = place.run("ps").stdout

    assert {answer.status_code for answer in answers} == {200}
    assert "x-localfusion-trace" not in answers[-1].headers
    assert "traces are not kept, answers go on" in notes
