"""Metrics of a served system with real children: deaths, starts, reloads; JSON on stderr."""

import json
import os
import signal
import urllib.request

from tests.cli.conftest import Place
from tests.cli.test_engines import ask, engines, served, wait_for
from tests.telemetry.pages import Page, parse

DEMO = {"demo": {"panel": ["a", {"model": "b", "n": 2}], "judge": "judge"}}
ALL_READY = {"a ready": 1, "b ready": 1, "judge ready": 1}


def read(place: Place) -> Page:
    url = f"http://127.0.0.1:{place.port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as response:
        return parse(response.read().decode())


def test_engines_of_a_served_system_are_told_of(place: Place) -> None:
    with served(place):
        ask(place)
        before, pid = read(place), engines(place)["b"]["pid"]
        os.killpg(pid, signal.SIGKILL)
        wait_for(lambda: read(place)("engine_restarts_total", engine="b") == 1)
        wait_for(lambda: read(place)("engine_state", engine="b", state="ready"))
        place.write(presets={"other": {"panel": ["a"], "judge": "judge"}} | DEMO)
        place.run("reload")
        after = read(place)

    assert before.nonzero("runs_total") == {"demo full": 1}
    assert before.nonzero("candidates_total") == {"a usable": 1, "b usable": 2}
    assert before.nonzero("engine_state") == ALL_READY
    assert set(before.nonzero("engine_start_seconds")) == {"a", "b", "judge"}
    slots = before.nonzero("engine_slot_bytes")
    assert set(slots) == {f"{name} {size}" for name in "ab" for size in ("actual", "planned")} | {
        "judge actual",
        "judge planned",
    }
    assert before("engine_kv_cache_usage", engine="a") >= 0
    assert before("loop_lag_seconds_count") >= 1
    assert ("localfusion_runs_total", frozenset({("preset", "other"), ("status", "full")})) in (
        after.samples
    )


def test_json_logs_are_json_to_the_last_line(place: Place) -> None:
    server = place.start("serve", "--log-format", "json", "--access-log")
    wait_for(lambda: is_up(place))
    ask(place)
    server.send_signal(signal.SIGTERM)
    _, err = server.communicate(timeout=30)

    lines = [json.loads(line) for line in err.splitlines()]
    assert all({"time", "level", "logger"} <= line.keys() for line in lines)
    assert {"a", "b", "judge"} <= {line.get("engine") for line in lines}
    asked = [line for line in lines if line.get("route") == "/v1/chat/completions"]
    assert [line["status"] for line in asked] == [200]


def is_up(place: Place) -> bool:
    try:
        return bool(read(place).nonzero("engine_state") == ALL_READY)
    except OSError:
        return False
