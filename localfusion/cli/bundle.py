"""``localfusion bundle``: carry presets to a machine without a network."""

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from localfusion.bundle import check, signature
from localfusion.bundle import install as installing
from localfusion.bundle.form import Target
from localfusion.bundle.start import describe, describe_bundle, tell
from localfusion.config import load
from localfusion.hardware import detect
from localfusion.system import choose_presets

app = typer.Typer(help="Carry presets to a machine without a network.", no_args_is_help=True)

_Folder = Annotated[Path, typer.Argument(help="The bundle, or the folder of its volumes.")]
_Key = Annotated[Optional[Path], typer.Option("--key", help="Public key that must have signed it.")]  # noqa: UP045


@app.command("create")
def create_bundle(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must not exist.")],
    preset: Annotated[
        Optional[list[str]],  # noqa: UP045  typer reads it
        typer.Option("--preset", help="What to carry; default: this machine's preset."),
    ] = None,
    python: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Python of the other machine, as 3.12; default: this one's."),
    ] = None,
    platform: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="As linux-x86_64; default: this machine's."),
    ] = None,
    accelerator: Annotated[
        Optional[Literal["cpu", "gpu"]],  # noqa: UP045
        typer.Option(help="Which vLLM; default: as this machine."),
    ] = None,
    wheels: Annotated[bool, typer.Option(help="Carry packages too.")] = True,
    volume_bytes: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Deal out to volume-01, … with at most so many bytes of files each."),
    ] = None,
    sign: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Private key (PEM, elliptic curve) to sign with."),
    ] = None,
) -> None:
    """Gather weights, packages, settings, licenses and docs; run again, it goes on."""
    from localfusion.bundle.create import Wish, create  # the extra 'bundle' is needed here only

    config, hardware = load(context.obj), detect()
    here = Target.here(accelerator or ("gpu" if hardware.gpus else "cpu"))
    target = Target(python or here.python, platform or here.platform, here.accelerator)
    presets = tuple(choose_presets(config, preset or [], hardware))
    wish = Wish(presets, out, target, with_wheels=wheels, volume_bytes=volume_bytes, key=sign)
    made = create(config, wish, tell)
    for item in made.manifest.missing:
        typer.echo(f"missing: {item.what}: {item.why}", err=True)
    typer.echo(f"{made.folder}  {len(made.manifest.files)} files, {made.manifest.size} bytes")
    typer.echo(f"manifest.json  {made.digest}")
    typer.echo(f"install.pyz    {made.manifest.installer}")


@app.command("verify")
def verify_bundle(folder: _Folder, key: _Key = None) -> None:
    """Read every byte of a bundle; needs no network."""
    bundle = check.verify(folder)
    if key is not None:
        signature.check_signature(bundle, key)
    typer.echo(describe_bundle(bundle) + ("  signed" if key is not None else ""))


@app.command("install")
def install_bundle(
    folder: _Folder,
    into: Annotated[Path, typer.Option("--into", help="Where installations lie.")],
    key: _Key = None,
) -> None:
    """Verify a bundle, then install it into a new environment, whole or not at all."""
    if key is not None:
        signature.check_signature(check.open_bundle(folder), key)
    for line in describe(installing.install(folder, into, say=tell)):
        typer.echo(line)
