"""Why an engine's process ended: what its last lines and the kernel say, and what mends it."""

import re
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a process ended.

    Attributes:
        text: In words; the remedy where there is one.
        is_configuration: Starting it again as it is cannot help.
    """

    text: str
    is_configuration: bool = False


_CORRUPT = Cause("its weights are corrupt: run localfusion models verify", is_configuration=True)
_MISSING = Cause("vLLM is not installed: run scripts/install", is_configuration=True)
OUT_OF_MEMORY = Cause("out of memory: ask for fewer or smaller models, or lower max_model_len")
_FULL = "another program holds the GPU: stop it, or lower max_num_seqs"
_SMALL = "lower max_num_seqs or max_model_len, or ask for fewer models"

# What the last lines of a log say, most telling first. Messages of vLLM 0.32, torch 2.13 and
# safetensors 0.6.
_MARKS = (
    ("Free memory on device", Cause(_FULL)),
    ("To serve at least one request", Cause("lower max_model_len in models.yaml", True)),
    ("greater than the derived max_model_len", Cause("lower max_model_len in models.yaml", True)),
    ("Available memory on node", Cause(_SMALL)),
    ("Error in memory profiling", Cause("another engine freed memory while this one started")),
    ("CUDA out of memory", OUT_OF_MEMORY),
    ("DefaultCPUAllocator: can't allocate memory", OUT_OF_MEMORY),
    ("SafetensorError", _CORRUPT),
    (
        "torchvision::nms",
        Cause("run scripts/install: it removes the packages that break vLLM's CPU build", True),
    ),
    ("No module named 'vllm'", _MISSING),
    ("No module named vllm", _MISSING),
    ("unrecognized arguments", Cause("remove that option from the model in models.yaml", True)),
    ("Sleep mode is not supported", Cause("this device cannot sleep", True)),
    ("Address already in use", Cause("remove the stale socket")),
)
_CORE_DIED = re.compile(r"EngineDeadError|died unexpectedly")


def explain(lines: Sequence[str], code: int | None, *, is_out_of_memory: bool) -> Cause:
    """Say why a process ended.

    Args:
        lines: The last ones of its log.
        code: Its exit code, negative for a signal; None: it runs and says that its core does not.
        is_out_of_memory: The kernel has killed something of ours since its start.
    """
    text = "\n".join(lines)
    was_killed = code == -signal.SIGKILL
    core_died = code is None or _CORE_DIED.search(text) is not None
    if is_out_of_memory and (was_killed or core_died):
        return OUT_OF_MEMORY
    for mark, cause in _MARKS:
        if mark in text:
            return Cause(f"{cause.text} ({_line_with(mark, lines)})", cause.is_configuration)
    if was_killed:
        return Cause("somebody killed its process (SIGKILL)")
    if core_died:
        return Cause("its engine core has ended")
    errors = [line for line in lines if "Error" in line]
    last = (errors or lines or ["its log is empty"])[-1]
    return Cause(f"its process ended with code {code}: {last[-300:]}")


def _line_with(mark: str, lines: Sequence[str]) -> str:
    line = next(line for line in lines if mark in line)
    return line[line.index(mark) :][:200]


def oom_kills(root: Path = Path("/")) -> int:
    """Count what the kernel has killed for want of memory, in our cgroup if it counts there.

    Source: cgroup-v2.rst (memory.events), cgroup-v1/memory.rst (memory.oom_control), both of which
    count the kills of a machine without memory too; /proc/vmstat counts those of all programs.
    """
    for file in _counters(root):
        with suppress(OSError, ValueError):
            for line in file.read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
    return 0


def _counters(root: Path) -> list[Path]:
    groups = root / "sys/fs/cgroup"
    found = []
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if not kinds:
                found.append(groups / path.lstrip("/") / "memory.events")
            elif "memory" in kinds.split(","):
                # In a container its own cgroup is mounted at the top.
                tops = (groups / "memory" / path.lstrip("/"), groups / "memory")
                found += [top / "memory.oom_control" for top in tops]
    return [*found, groups / "memory.events", root / "proc/vmstat"]
