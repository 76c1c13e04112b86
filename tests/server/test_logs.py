"""Lines of the log: as text, as JSON, with request and run, without content."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localfusion.engines.base import PhaseChange
from localfusion.engines.sim import SimEngine
from localfusion.server.access import Access
from localfusion.server.keys import KeyFile
from localfusion.server.logs import JsonLines, access_log, log_phase, notes_log, set_up_logs
from tests.server.system import CHAT, SimGateway, body, gateway, served, traced

Err = Callable[[], str]
OTHER = "lf-" + "x" * 43
FAULT = "canaryfault"
NAMES = ("localfusion", "opentelemetry")


@pytest.fixture
def err(capsys: pytest.CaptureFixture[str]) -> Iterator[Err]:
    """Read what is logged to stderr; the loggers are put back afterwards."""
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(logger, logger.handlers, logger.propagate) for logger in loggers]
    yield lambda: capsys.readouterr().err
    for logger, handlers, propagate in before:
        logger.handlers, logger.propagate = handlers, propagate
    for logger in (access_log, notes_log):
        logger.setLevel(logging.NOTSET)


def lines(err: Err) -> list[dict[str, object]]:
    return [json.loads(line) for line in err().splitlines()]


class Broken(SimGateway):
    """Has a fault."""

    def not_ready(self) -> tuple[str, ...]:
        logging.getLogger("localfusion.somewhere").warning("looking\nfor it")
        raise ZeroDivisionError(FAULT)


async def test_json_line_of_a_request_names_request_run_and_reason(
    err: Err, tmp_path: Path
) -> None:
    set_up_logs(access=True, form="json")
    headers = {"x-request-id": "mine"}
    async with traced(tmp_path) as server:
        good = await server.http.post(CHAT, json=body(), headers=headers)
        await server.http.post(CHAT, json=body(temperature=9))

    first, second = lines(err)
    assert first["run"] == good.headers["x-localfusion-trace"]
    assert (first["logger"], first["level"], first["request"]) == (
        "localfusion.access",
        "info",
        "mine",
    )
    assert (first["route"], first["status"], first["reason"]) == (CHAT, 200, None)
    assert (second["status"], second["reason"], second["run"]) == (400, "out_of_range", None)


async def test_line_of_any_part_has_the_request_that_it_is_for(err: Err) -> None:
    set_up_logs(access=False, form="json")
    plain = gateway()
    system = Broken(plain.engines, plain.settings)
    async with served(system) as server:
        await server.http.get("/ready", headers={"x-request-id": "mine"})
    logging.getLogger("localfusion.somewhere").warning("afterwards")

    warning, fault, after = lines(err)
    assert (warning["request"], warning["message"]) == ("mine", "looking\nfor it")
    assert (fault["request"], fault["level"]) == ("mine", "error")
    assert "ZeroDivisionError" in str(fault["message"])
    assert after["request"] is None


@pytest.mark.threat(8)
@pytest.mark.parametrize("form", ["text", "json"])
async def test_log_of_neither_form_holds_content(err: Err, form: str, tmp_path: Path) -> None:
    set_up_logs(access=True, form="json" if form == "json" else "text")
    keys = KeyFile(tmp_path / "keys.json")
    secret = keys.create("ann", "admin")
    plain = gateway(a=SimEngine("canarydraft"), d=SimEngine("canaryanswer"))
    system = Broken(plain.engines, plain.settings)
    headers = {"authorization": f"Bearer {secret}", "x-canary": "canaryheader"}
    async with served(system, access=Access(keys=keys)) as server:
        await server.http.post(CHAT, json=body("canaryprompt"), headers=headers)
        await server.http.post(CHAT, json=body("canaryprompt", stream=True), headers=headers)
        await server.http.post(CHAT, json=body("canaryprompt", top_p="canary"), headers=headers)
        await server.http.get("/ready?q=canary", headers=headers)

    text = err()
    assert text.count(CHAT) == 3
    assert "ann" in text
    assert "canary" not in text
    assert secret not in text


@pytest.mark.threat(8)
def test_json_line_stays_one_line_without_secrets() -> None:
    text = f'Bearer {OTHER}"}}\n\x1b[31m\u202e {OTHER}'
    record = logging.LogRecord("localfusion.x", logging.ERROR, "f", 1, "%s", (text,), None)

    line = JsonLines().format(record)

    assert "\n" not in line
    assert OTHER not in line
    assert "\x1b" not in json.loads(line)["message"]
    assert json.loads(line)["message"].startswith("Bearer ***")


def test_fields_are_masked_too() -> None:
    record = logging.LogRecord("localfusion.x", logging.INFO, "f", 1, "", (), None)
    record.fields = {"detail": OTHER, "seconds": 1.5}

    line = json.loads(JsonLines().format(record))

    assert (line["detail"], line["seconds"]) == ("lf-***", 1.5)


def test_phases_of_starts_are_lines(err: Err) -> None:
    set_up_logs(access=False, form="json")

    log_phase(PhaseChange("a", "launching", 0.25, "usually 31 s"))

    (line,) = lines(err)
    assert {k: line[k] for k in ("engine", "phase", "seconds", "detail")} == {
        "engine": "a",
        "phase": "launching",
        "seconds": 0.25,
        "detail": "usually 31 s",
    }


def test_text_is_what_was_said(err: Err) -> None:
    set_up_logs(access=False)

    notes_log.info("http://127.0.0.1:8000/v1 answers for demo once ready")

    assert err() == "http://127.0.0.1:8000/v1 answers for demo once ready\n"
