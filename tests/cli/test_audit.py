"""``localfusion audit``: what ``ask`` leaves in the log, and a line of it that is changed."""

import json

from tests.cli.conftest import Place


def test_ask_is_noted_and_a_changed_line_is_named(place: Place) -> None:
    file = place.root / "s" / "audit" / "audit.jsonl"

    answered = place.run("ask", "How many pens?", "--own-engines")
    intact = place.run("audit", "verify")
    shown = place.run("audit", "show", "--json")
    file.write_text(file.read_text().replace('"judge"', '"other"'))
    changed = place.run("audit", "verify")

    assert answered.returncode == 0, answered.stderr
    assert intact.returncode == 0, intact.stderr
    entries = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [entry["event"] for entry in entries] == ["asked", "answered"]
    assert entries[1]["models"] == ["a", "b", "judge"]
    assert changed.returncode == 1
    assert f"{file}:2: was changed" in changed.stderr


def test_end_that_is_cut_off_is_found_by_a_head_noted_before(place: Place) -> None:
    place.run("ask", "How many pens?", "--own-engines")
    file = place.root / "s" / "audit" / "audit.jsonl"
    head = place.run("audit", "verify").stdout.split()[-1]
    file.write_text(file.read_text().splitlines(keepends=True)[0])

    assert place.run("audit", "verify").returncode == 0
    assert place.run("audit", "verify", "--head", head).returncode == 1
