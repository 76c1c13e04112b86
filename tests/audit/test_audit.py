"""The audit log: whoever changes it is found out, and no kill makes it unreadable."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.audit import AuditLog, read_lines, verify
from localfusion.audit.chain import GENESIS, encode
from localfusion.engines.sim import SimEngine
from tests.server.system import until
from tests.traces.conftest import asked, fusion

CHILD = """
import sys
from pathlib import Path
from localfusion.audit import AuditLog
from localfusion.events import RunAborted, RunStarted
log = AuditLog(Path(sys.argv[1]))
log.start()
print("up", flush=True)
n = 0
while True:
    n += 1
    run = f"r{n}"
    log.observe(RunStarted(run_id=run, preset="p", policy="fuse", members=("a",), judge=None))
    log.observe(RunAborted(run_id=run, reason="cancelled"))
"""


def chain(count: int) -> list[bytes]:
    lines, head = [], GENESIS
    for number in range(count):
        line, head = encode({"event": "asked", "run": f"r{number}", "key": "José"}, head)
        lines.append(line)
    return lines


@given(st.integers(0, 4), st.data())
def test_every_changed_byte_is_found_in_its_line(number: int, data: st.DataObject) -> None:
    lines = chain(5)
    place = data.draw(st.integers(0, len(lines[number]) - 2))
    other = data.draw(st.sampled_from([b for b in b'0aZ"}' if b != lines[number][place]]))
    changed = lines[number][:place] + bytes([other]) + lines[number][place + 1 :]

    report = verify([*lines[:number], changed, *lines[number + 1 :]])

    assert report.faults[0].line == number + 1


@pytest.mark.parametrize(
    ("lines", "faulty"),
    [
        (lambda a, b, c, d: [a, c, d], 2),
        (lambda a, b, c, d: [b, c, d], 1),
        (lambda a, b, c, d: [a, c, b, d], 2),
        (lambda a, b, c, d: [a, b, b, c, d], 3),
    ],
    ids=["taken out", "first taken out", "swapped", "repeated"],
)
def test_lines_that_are_not_where_they_were_are_found(lines, faulty: int) -> None:  # type: ignore[no-untyped-def]  # a row's own function
    assert verify(lines(*chain(4))).faults[0].line == faulty


@pytest.mark.parametrize("kept", [1, 40, -1], ids=["a byte", "half", "all but the line end"])
def test_torn_end_is_named_and_the_next_writer_goes_on(tmp_path: Path, kept: int) -> None:
    file = tmp_path / "audit.jsonl"
    lines = chain(3)
    file.write_bytes(b"".join(lines[:2]) + lines[2][:kept])
    torn = verify(read_lines(file))

    log = AuditLog(file)
    log.start()
    log.close()

    assert [(fault.line, fault.is_torn) for fault in torn.faults] == [(3, True)]
    assert verify(read_lines(file)).is_intact
    assert file.read_bytes().startswith(b"".join(lines[:2]) + lines[2][:kept])


def test_note_of_a_torn_end_excuses_no_other_line(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_bytes(chain(1)[0] + b'{"torn')
    log = AuditLog(file)
    log.start()
    log.close()
    lines = read_lines(file)

    report = verify([lines[0], b'{"born\n', *lines[2:]])

    assert report.faults[0].line == 2


def test_log_of_a_killed_process_is_whole_up_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    child = [sys.executable, "-c", CHILD, str(file)]
    for _ in range(3):
        with subprocess.Popen(child, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            size = file.stat().st_size
            while file.stat().st_size < size + 4096:
                os.sched_yield()
            process.send_signal(signal.SIGKILL)

    log = AuditLog(file)
    log.start()
    log.close()

    report = verify(read_lines(file))
    assert report.is_intact
    assert len(report.entries) > 30


async def test_run_is_noted_without_what_was_said(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    log = AuditLog(file)
    log.start()
    observed = fusion(log.observe, a=SimEngine("secret-answer", name="a"))

    answer = await observed.complete(asked("secret-question", key="laptop"))

    log.close()
    entries = verify(read_lines(file)).entries
    assert [entry.fields["event"] for entry in entries] == ["asked", "answered"]
    assert entries[0].fields["key"] == "laptop"
    assert entries[1].fields["run"] == answer.run_id
    assert entries[1].fields["models"] == ["a", "b", "j"]
    assert b"secret" not in file.read_bytes()


async def test_full_disk_is_told_and_what_waited_is_written_later(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    log = AuditLog(file)
    log.start()
    log.file = Path("/dev/full")
    await fusion(log.observe, a=SimEngine("8")).complete(asked())
    await until(lambda: bool(log.notes))
    (note,) = log.notes
    log.file = file
    log.close()

    assert "answers go on" in note
    assert "No space left" in note
    assert log.notes == ()
    assert [e.fields["event"] for e in verify(read_lines(file)).entries] == ["asked", "answered"]
