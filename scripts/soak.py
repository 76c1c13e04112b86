"""A long run under faults; see scripts/soak."""

import argparse
import asyncio
import gc
import logging
import random
import sys
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass

import psutil
from soaks.faults import Faults
from soaks.load import Load, Tally
from soaks.system import DEADLINE, open_system

from localfusion.client import RemoteFusion

WARM = 0.2
"""Part of the time after which memory is measured first."""
SETTLE_SECONDS = 0.5
MIB = 1 << 20


@dataclass(frozen=True)
class Census:
    """What this process has at a moment."""

    tasks: int
    descriptors: int
    processes: int

    @classmethod
    def take(cls) -> "Census":
        process = psutil.Process()
        children = process.children(recursive=True)
        return cls(len(asyncio.all_tasks()), process.num_fds(), len(children))

    def leaked_since(self, before: "Census") -> dict[str, int]:
        return {
            "tasks": self.tasks - before.tasks,
            "sockets and files": self.descriptors - before.descriptors,
            "processes": self.processes - before.processes,
        }


async def soak(seconds: float, seed: int) -> bool:
    """Run, print, and return whether nothing was lost or leaked."""
    rng = random.Random(seed)
    await asyncio.sleep(0)
    before = Census.take()
    memory: list[float] = []
    async with (
        open_system(rng) as (system, port),
        aclosing(RemoteFusion(f"http://127.0.0.1:{port}")) as remote,
        asyncio.TaskGroup() as group,
    ):
        load = Load(system.fusion, remote, rng.random())
        faults = Faults(system, load.burst)
        breaking = group.create_task(faults.run())
        watching = group.create_task(_watch(seconds, memory, load.tally))
        await load.run(seconds)
        breaking.cancel()
        await watching
    await asyncio.sleep(SETTLE_SECONDS)  # closed connections leave the loop
    memory.append(_memory())
    leaked = Census.take().leaked_since(before)
    _print(load.tally, faults.counts, leaked, memory)
    return not load.tally.lost and not any(count > 0 for count in leaked.values())


async def _watch(seconds: float, memory: list[float], tally: Tally) -> None:
    await asyncio.sleep(WARM * seconds)
    memory += [_memory(), tally.requests]


def _memory() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss / MIB)


def _print(tally: Tally, faults: Counter[str], leaked: dict[str, int], memory: list[float]) -> None:
    warm, asked, end = memory
    growth = (end - warm) / max(1.0, tally.requests - asked) * 1000
    rows = {
        "faults": _counts(faults),
        "requests": f"{tally.requests}, {tally.over_http} over HTTP; {tally.left} clients left",
        "answers": _counts(tally.answers),
        "typed errors": _counts(tally.errors),
        "slowest": f"{tally.slowest:.1f} s; the deadline is {DEADLINE:.0f} s",
        "lost": str(len(tally.lost)),
        "leaked": f"{sum(max(0, n) for n in leaked.values())} ({_counts(Counter(leaked))})",
        "memory": f"{warm:.0f} MiB warm, {end:.0f} MiB at the end: {growth:+.2f} MiB per 1000",
    }
    for name, value in rows.items():
        print(f"{name:14} {value}")
    for reason in tally.lost[:10]:
        print(f"lost: {reason}")


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "none"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # every fault would be told twice
    print(f"simulated engines, {options.minutes:g} min, seed {options.seed}", flush=True)
    return 0 if asyncio.run(soak(60 * options.minutes, options.seed)) else 1


if __name__ == "__main__":
    sys.exit(main())
