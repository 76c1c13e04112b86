"""``localfusion plan``: which engine gets which share of the hardware; nothing is loaded."""

import json
from dataclasses import asdict
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from localfusion import config
from localfusion.errors import ConfigError
from localfusion.hardware import Hardware, detect, imagine
from localfusion.placement import GIB, Plan, Slot
from localfusion.runtime import choose_presets, make_plan

TABLE_WIDTH = 110


def show_plan(
    context: typer.Context,
    preset: Annotated[
        list[str] | None, typer.Option(help="Preset to plan for; default: this machine's.")
    ] = None,
    gpus: Annotated[str | None, typer.Option(help="Plan for imagined GPUs, as in 2x80GB.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show which engine gets which cores or GPU memory; nothing is loaded."""
    loaded = config.load(context.obj)
    try:
        hardware = imagine(gpus) if gpus else detect()
    except ValueError as error:
        raise ConfigError(f"--gpus: {error}") from error
    presets = choose_presets(loaded, preset or [], hardware)
    made = make_plan(loaded, presets.values(), hardware)
    if as_json:
        typer.echo(json.dumps(_document(list(presets), made), indent=2))
    else:
        _print(list(presets), made)


def _document(presets: list[str], made: Plan) -> dict[str, object]:
    return {
        "presets": presets,
        "hardware": asdict(made.hardware),
        "slots": [asdict(slot) for slot in made.slots],
        "notes": list(made.notes),
    }


def _print(presets: list[str], made: Plan) -> None:
    console = Console(highlight=False)
    console.width = max(console.width, TABLE_WIDTH)  # names are cut otherwise, in pipes above all
    table = Table(title=f"plan for {', '.join(presets)}", title_justify="left", box=None)
    for column in ("engine", "role", "device", "weights", "kv cache", "context", "slot", "start"):
        justify: Literal["left", "right"] = "left" if column in ("engine", "role") else "right"
        table.add_column(column, justify=justify, no_wrap=True)
    for place, slot in enumerate(made.slots):
        table.add_row(
            slot.model + ("" if slot.is_on_disk else " *"),
            ", ".join(slot.roles),
            _device(slot, made.hardware),
            _gib(slot.weight_bytes),
            _gib(slot.kv_cache_bytes * max(1, len(slot.devices))),
            str(slot.max_model_len),
            _gib(slot.bytes),
            str(place + 1) if slot.devices else "together",
        )
    console.print(table)
    for line in _devices(made):
        console.print(line)
    if not all(slot.is_on_disk for slot in made.slots):
        console.print("* not on disk: figures from the catalogue in models.yaml")
    for note in made.notes:
        console.print(f"note: {note}")


def _device(slot: Slot, hardware: Hardware) -> str:
    if slot.devices:
        return ",".join(slot.devices)
    return "cores " + ",".join(map(str, slot.cores))


def _devices(made: Plan) -> list[str]:
    """One bar per device: what is taken of what is free now."""
    if not made.hardware.gpus:
        return [_bar("memory", sum(s.bytes for s in made.slots), made.hardware.cpu.free_bytes)]
    lines = []
    for gpu in made.hardware.gpus:
        taken = sum(s.bytes // len(s.devices) for s in made.slots if gpu.id in s.devices)
        lines.append(_bar(gpu.id, taken, gpu.free_bytes))
    return lines


def _bar(name: str, taken: int, free: int) -> str:
    filled = round(30 * taken / free)
    return f"{name:8} {'█' * filled}{'·' * (30 - filled)} {_gib(taken)} of {_gib(free)} free"


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"
