"""Processes that write traces and come to harm; KIND and FOLDER are their arguments.

``nursery`` forks a writer for each line on its stdin, so that each begins at once. A writer prints
its process id, then ``+ID`` for each acknowledged trace and ``-ID`` before one is deleted.
``full`` and ``limit`` write until the disk, or the file's allowed size, takes no more, make room
again, and print what came of it.
"""

import asyncio
import os
import random
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from localfusion.traces import Query, TraceStore
from tests.traces.conftest import Kept, asked, fusion, keeping

AT_ONCE = 4


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    if kind == "nursery":
        for _ in sys.stdin:
            child = os.fork()
            if child == 0:
                asyncio.run(write_for_ever(folder))
            os.waitpid(child, 0)
            say(f"reaped {child}")
    else:
        asyncio.run(run_out_of_room(folder, on_disk if kind == "full" else of_file))


def say(line: str) -> None:
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


async def write_for_ever(folder: Path) -> None:
    async with keeping(folder) as kept, asyncio.TaskGroup() as group:
        say(str(os.getpid()))
        for _ in range(AT_ONCE):
            group.create_task(write_many(kept))


async def write_many(kept: Kept) -> None:
    while True:
        text = f"{random.random()} " * random.randrange(1, 400)
        answer = await fusion(kept.observe).complete(asked(text))
        if not await kept.traces.acknowledge(answer.run_id):
            continue
        say(f"+{answer.run_id}")
        if random.random() < 0.1:
            say(f"-{answer.run_id}")
            await kept.traces.delete(answer.run_id)


Room = Callable[[Path], Callable[[], None]]


def on_disk(folder: Path) -> Callable[[], None]:
    """Fill half of a small disk; return what frees it."""
    ballast = folder / "ballast"
    ballast.write_bytes(b"x" * (1 << 20))
    return ballast.unlink


def of_file(folder: Path) -> Callable[[], None]:
    """Let no file grow beyond a size; return what lets it."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


async def run_out_of_room(folder: Path, room: Room) -> None:
    kept_ids, lost = [], 0
    folder.mkdir(exist_ok=True)
    make_room = room(folder)
    async with keeping(folder) as kept:
        while lost < 3:
            answer = await fusion(kept.observe).complete(asked(os.urandom(2000).hex()))
            if await kept.traces.acknowledge(answer.run_id):
                kept_ids.append(answer.run_id)
            else:
                lost += 1
        say(f"trouble: {kept.traces.notes[0]}")
        make_room()
        while kept.traces.trouble is not None:
            await kept.settle()
        answer = await fusion(kept.observe).complete(asked())
        assert await kept.traces.acknowledge(answer.run_id)
        assert not kept.traces.notes
    store = TraceStore(folder / "traces.db")
    assert all(store.get(id) is not None for id in (*kept_ids, answer.run_id))
    listed = len(store.list(Query(limit=200)).traces)
    say(f"resumed: {len(kept_ids)} before, {lost} told as not kept, {listed} in the end")


if __name__ == "__main__":
    main()
