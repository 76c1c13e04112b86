"""``localfusion plan``: which engine gets which share of the hardware; nothing is loaded."""

import json
from dataclasses import asdict, replace
from typing import Annotated, Literal

import typer
from rich.table import Table

from localfusion import config
from localfusion.cli.picture import draw
from localfusion.cli.show import wide_console
from localfusion.errors import ConfigError
from localfusion.fallback import withdrawn
from localfusion.hardware import detect, imagine
from localfusion.placement import Plan, gib
from localfusion.system import choose_presets, make_plan, usable_presets

LEFT = ("engine", "role", "device")
COLUMNS = (*LEFT, "weights", "kv cache", "context", "requests", "slot", "start")


def show_plan(
    context: typer.Context,
    preset: Annotated[
        list[str] | None, typer.Option(help="Preset to plan for; default: this machine's.")
    ] = None,
    gpus: Annotated[
        str | None, typer.Option(help="Plan for imagined GPUs, as in 2x80GB or 2x80GB+1x24GB.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show which engine gets which cores or GPU memory; nothing is loaded."""
    loaded = config.load(context.obj)
    try:
        hardware = imagine(gpus) if gpus else detect()
    except ValueError as error:
        raise ConfigError(f"--gpus: {error}") from error
    chosen = choose_presets(loaded, preset or [], hardware)
    presets, notes = usable_presets(loaded.settings, chosen, withdrawn(loaded.settings))
    made = make_plan(loaded, presets, hardware)
    made = replace(made, notes=(*notes, *made.notes))
    if as_json:
        typer.echo(json.dumps(_document(list(presets), made), indent=2))
    else:
        _print(list(presets), made)


def _document(presets: list[str], made: Plan) -> dict[str, object]:
    starts = made.start_places()
    return {
        "presets": presets,
        "hardware": asdict(made.hardware),
        "slots": [{**asdict(slot), "start": starts[slot.model]} for slot in made.slots],
        "groups": made.groups,
        "judges": dict(made.judges),
        "devices": [
            {
                "device": device,
                "group": place,
                "free_bytes": free,
                "shares": [asdict(share) for share in made.shares(device, group)],
            }
            for place, group in enumerate(made.groups)
            for device, free in made.devices.items()
        ],
        "notes": made.notes,
    }


def _print(presets: list[str], made: Plan) -> None:
    console = wide_console()
    console.print(_table(presets, made))
    for line in draw(made):
        console.print(line, soft_wrap=True)
    if not all(slot.is_on_disk for slot in made.slots):
        console.print("* not on disk: figures from the catalogue in models.yaml")
    for note in made.notes:
        console.print(f"note: {note}", soft_wrap=True)


def _table(presets: list[str], made: Plan) -> Table:
    table = Table(title=f"plan for {', '.join(presets)}", title_justify="left", box=None)
    for column in COLUMNS:
        justify: Literal["left", "right"] = "left" if column in LEFT else "right"
        table.add_column(column, justify=justify, no_wrap=True)
    starts = made.start_places()
    for slot in made.slots:
        table.add_row(
            slot.model + ("" if slot.is_on_disk else " *"),
            ", ".join(slot.roles),
            slot.where,
            gib(slot.weight_bytes),
            gib(slot.kv_cache_bytes * max(1, len(slot.devices))),
            str(slot.max_model_len),
            str(slot.max_num_seqs),
            gib(slot.bytes),
            str(starts[slot.model]) if slot.devices else "together",
        )
    return table
