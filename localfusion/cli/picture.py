"""A plan as a picture: one bar for each device, and one more for each group that takes turns."""

from collections.abc import Iterator
from string import ascii_uppercase

from localfusion.placement import GIB, Plan, Share

WIDTH = 64
_TURNS = ("while the panel works", "while the judge works")


def draw(plan: Plan) -> Iterator[str]:
    """Yield the lines: who holds which part of each device's memory, and what stays free."""
    letters = {slot.model: ascii_uppercase[i % 26] for i, slot in enumerate(plan.slots)}
    totals = {gpu.id: gpu.total_bytes for gpu in plan.hardware.gpus}
    for place, group in enumerate(plan.groups):
        if len(plan.groups) > 1:
            yield f"{_TURNS[place]}:"
        idle = []
        for device, free in plan.devices.items():
            shares = plan.shares(device, group)
            if not shares:
                idle.append(device)
                continue
            yield f"{device:7} {_bar(shares, letters, free, totals.get(device, free))}"
            yield f"{'':7} {_legend(shares, letters, free, totals.get(device, free))}"
        if idle:
            yield f"idle: {', '.join(idle)}"


def _bar(shares: tuple[Share, ...], letters: dict[str, str], free: int, total: int) -> str:
    """Return the device from left to right; memory of other programs stands at the right end."""
    cells = ["·"] * round(free / total * WIDTH)
    for share in shares:
        letter = letters[share.model]
        for cell in range(round(share.begin / total * WIDTH), round(share.end / total * WIDTH)):
            cells[cell] = letter.lower() if share.is_asleep else letter
    return "".join(cells).ljust(WIDTH, "x")


def _legend(shares: tuple[Share, ...], letters: dict[str, str], free: int, total: int) -> str:
    parts = []
    for share in shares:
        size = f"{(share.end - share.begin) / GIB:.1f}"
        if share.is_asleep:
            parts.append(f"{letters[share.model].lower()} {share.model} asleep {size}")
        else:
            parts.append(f"{letters[share.model]} {share.model} {size}")
    parts.append(f"free {(free - shares[-1].end) / GIB:.1f} of {free / GIB:.1f} GiB")
    if total > free:
        parts.append(f"x others {(total - free) / GIB:.1f}")
    return ", ".join(parts)
