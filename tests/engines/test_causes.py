"""Why processes end: kernel's counters, last lines, exit codes."""

from pathlib import Path

import pytest

from localfusion.engines.causes import OUT_OF_MEMORY, explain, oom_kills

DEAD_CORE = ["vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue."]


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("cgroup", "counter"),
    [
        ("0::/a/b\n", "sys/fs/cgroup/a/b/memory.events"),
        ("9:cpu:/\n4:memory:/a\n0::/\n", "sys/fs/cgroup/memory/a/memory.oom_control"),
        ("4:memory:/outside/of/the/container\n", "sys/fs/cgroup/memory/memory.oom_control"),
        ("0::/../outside\n", "sys/fs/cgroup/memory.events"),
        ("0::/\n", "proc/vmstat"),
    ],
    ids=["second version", "first version", "first in a container", "second likewise", "none"],
)
def test_kills_are_counted_where_the_kernel_counts_them(
    tmp_path: Path, cgroup: str, counter: str
) -> None:
    write(tmp_path / "proc/self/cgroup", cgroup)
    write(tmp_path / "proc/vmstat", "nr_free_pages 5\noom_kill 70\n")
    write(tmp_path / counter, "oom 9\noom_kill 7\noom_group_kill 8\n")

    assert oom_kills(tmp_path) == 7


def test_kernel_that_counts_nothing_means_none(tmp_path: Path) -> None:
    assert oom_kills(tmp_path) == 0


@pytest.mark.parametrize(
    ("code", "lines"),
    [(-9, []), (0, DEAD_CORE), (None, [])],
    ids=["server", "core", "core at once"],
)
def test_kill_for_want_of_memory_is_told_from_one_by_hand(
    code: int | None, lines: list[str]
) -> None:
    assert explain(lines, code, is_out_of_memory=True) == OUT_OF_MEMORY
    assert "memory" not in explain(lines, code, is_out_of_memory=False).text


def test_memory_of_others_does_not_explain_an_error_of_its_own() -> None:
    cause = explain(["ValueError: no such layer"], 1, is_out_of_memory=True)

    assert cause.text == "its process ended with code 1: ValueError: no such layer"


@pytest.mark.parametrize(
    ("line", "is_configuration"),
    [
        ("api_server: error: unrecognized arguments: --colour", True),
        ("ValueError: To serve at least one request with the model's max seq len (9)", True),
        ("SafetensorError: Error while deserializing header: HeaderTooLarge", True),
        ("ValueError: Free memory on device cuda:0 (1/80 GiB) on startup is less than", False),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", False),
    ],
)
def test_only_what_another_start_cannot_mend_is_configuration(
    line: str, is_configuration: bool
) -> None:
    cause = explain(["INFO all is well", line, "INFO bye"], 1, is_out_of_memory=False)

    assert cause.is_configuration == is_configuration
    assert line[-30:] in cause.text
