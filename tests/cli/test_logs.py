"""``localfusion logs``: the end of an engine's log, what comes after, nothing that steers."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner

from localfusion.cli import app
from localfusion.engines.logfile import rotate
from tests.cli.conftest import Place

BLOCK = 1 << 16


def log_file(place: Place, engine: str = "a") -> Path:
    folder = place.root / "c" / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{engine}.log"


def printed(place: Place, *arguments: str) -> str:
    """Print a log here, which saves the second that a Python needs to start."""
    done = CliRunner().invoke(app, ["logs", *arguments], env=place.env)
    assert done.exit_code == 0, done.exception
    return done.stdout


def test_last_lines_are_printed(place: Place) -> None:
    log_file(place).write_text("".join(f"line {i}\n" for i in range(20)))

    done = place.run("logs", "a", "-n", "3")

    assert (done.returncode, done.stdout) == (0, "line 17\nline 18\nline 19\n")


@pytest.mark.parametrize("count", [0, 5000, 10_000])
def test_as_many_lines_as_asked_for_of_a_long_log(place: Place, count: int) -> None:
    written = [f"{'x' * (i % 90)} {i}" for i in range(6000)]
    log_file(place).write_text("\n".join(written))
    assert log_file(place).stat().st_size > 4 * BLOCK

    lines = printed(place, "a", "-n", str(count)).splitlines()

    assert lines == (written[-count:] if count else [])


def test_a_line_that_is_not_ended_and_steps_of_a_progress_bar_are_lines(place: Place) -> None:
    log_file(place).write_bytes(b"begin\r\nshards: 50%\rshards: 100%\rKilled")

    assert printed(place, "a") == "begin\nshards: 50%\nshards: 100%\nKilled\n"


def test_nothing_in_a_log_can_steer_the_terminal(place: Place) -> None:
    colors, title, clipboard = "\x1b[31mred\x1b[0m ", "\x1b]0;title\x07A", "\x1b]52;c;AAAA\x1b\\B "
    charset, eight_bit, cut = "\x1b(0C\x1bcD ", "\x9b2JE ", "\x1b]cut\x08"
    log_file(place).write_text(f"{colors}{title}{clipboard}{charset}{eight_bit}{cut}\n")
    log_file(place, "b").write_bytes(b"\xff\x9b31m\xfe\x00\n")

    assert printed(place, "a") == "red AB CD E cut\n"
    assert printed(place, "b") == "\ufffd\ufffd31m\ufffd\n"


def test_log_of_an_earlier_start(place: Place) -> None:
    log_file(place).write_text("first\n")
    rotate(log_file(place))
    log_file(place).write_text("second\n")

    assert printed(place, "a") == "second\n"
    assert printed(place, "a", "--previous", "1") == "first\n"
    done = place.run("logs", "a", "--previous", "2")
    assert (done.returncode, "a.log.2" in done.stderr) == (2, True)


def test_unknown_engine_names_the_known_ones(place: Place) -> None:
    log_file(place, "gone-from-models-yaml").write_text("x\n")

    done = place.run("logs", "../a")

    assert done.returncode == 2
    assert "known are a, b, gone-from-models-yaml, judge" in done.stderr
    assert "Traceback" not in done.stderr


def test_engine_that_was_never_started(place: Place) -> None:
    done = place.run("logs", "b")

    assert (done.returncode, done.stdout) == (2, "")
    assert "b has no log yet" in done.stderr


def test_engine_of_another_machine(place: Place) -> None:
    remote = {"engine": "openai", "base_url": "http://127.0.0.1:9/v1"}
    presets = {"demo": {"policy": "single", "panel": ["far"]}}
    place.write(models={"far": remote}, presets=presets)

    done = place.run("logs", "far")

    assert (done.returncode, "no engine of this machine" in done.stderr) == (2, True)


def test_log_is_shown_when_models_yaml_is_wrong(place: Place) -> None:
    log_file(place).write_text("why it died\n")
    place.file.write_text("models: [")

    assert printed(place, "a") == "why it died\n"


Process = subprocess.Popen[str]
Follow = Callable[..., Process]


@pytest.fixture
def follow(place: Place) -> Iterator[Follow]:
    """Give a function that starts to follow the log of ``a``; all that runs is ended."""
    with ExitStack() as stack:

        def start(*arguments: str) -> Process:
            process = stack.enter_context(place.start("logs", "a", "--follow", *arguments))
            stack.callback(process.kill)
            return process

        yield start


def next_line(process: Process) -> str:
    assert process.stdout is not None
    return process.stdout.readline()  # the test's time limit ends a wait in vain


def interrupt(process: Process) -> None:
    process.send_signal(signal.SIGINT)
    rest, error = process.communicate(timeout=30)
    assert (process.returncode, rest) == (130, "")
    assert "Traceback" not in error


def test_following_shows_what_is_added_until_interrupted(place: Place, follow: Follow) -> None:
    file = log_file(place)
    file.write_text("old\nbefo")
    process = follow("-n", "1")
    assert next_line(process) == "old\n"

    with file.open("a") as log:
        log.write("re\nhalf")
        log.flush()
        assert next_line(process) == "before\n"
        log.write(" whole\nnext\n")
        log.flush()

    assert [next_line(process), next_line(process)] == ["half whole\n", "next\n"]
    interrupt(process)


def test_following_goes_on_in_the_log_of_the_next_start(place: Place, follow: Follow) -> None:
    file = log_file(place)
    file.write_text("first\n")
    process = follow()
    assert next_line(process) == "first\n"

    with file.open("a") as old:
        rotate(file)
        old.write("last words")
        old.flush()
        file.write_text("second\n")

    assert [next_line(process), next_line(process)] == ["last words\n", "second\n"]
    rotate(file)
    file.write_text("third\n")
    assert next_line(process) == "third\n"
    interrupt(process)


def test_following_goes_on_in_a_log_that_was_cut(place: Place, follow: Follow) -> None:
    file = log_file(place)
    file.write_text("long enough to be longer\n")
    process = follow()
    assert next_line(process) == "long enough to be longer\n"

    file.write_text("short\n")

    assert next_line(process) == "short\n"
    interrupt(process)


def test_following_begins_before_the_first_start(place: Place, follow: Follow) -> None:
    process = follow()
    assert process.stderr is not None
    assert "waiting" in process.stderr.readline()

    log_file(place).write_text("begins\n")

    assert next_line(process) == "begins\n"
    interrupt(process)


def test_following_does_not_wait_for_the_end_of_an_endless_line(
    place: Place, follow: Follow
) -> None:
    file = log_file(place)
    file.write_text("begin\n")
    process = follow()
    assert next_line(process) == "begin\n"

    with file.open("a") as log:
        log.write("x" * BLOCK)

    assert next_line(process) == "x" * BLOCK + "\n"
    interrupt(process)
