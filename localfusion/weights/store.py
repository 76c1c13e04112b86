"""Where pulled models lie, in which state they are, and whether they are still what was pulled.

``models_dir`` holds a folder per model, ``NAME-DIGEST`` with 12 hex digits of its source's digest,
so that another source in models.yaml is another folder. Beside them: ``.partial-NAME-DIGEST``, the
staging folder of a pull; ``.manifests``, for folders that are the user's own; ``.stamps``, what a
file looked like when its bytes were last read, so that an engine's start need not read them again.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from localfusion.config import Config, GgufSource, HubSource, ModelSpec, PathSource, nearest
from localfusion.durable import write_whole
from localfusion.errors import ModelNotFoundError, WeightsError
from localfusion.weights.allowed import MANIFEST, check_folder
from localfusion.weights.facts import read_json
from localfusion.weights.lock import read_lock
from localfusion.weights.manifest import (
    Manifest,
    hash_file,
    hash_files,
    read_manifest,
    write_manifest,
)

State = Literal["none", "missing", "partial", "damaged", "pulled", "verified"]


@dataclass(frozen=True, slots=True)
class Place:
    """The paths of one model.

    Attributes:
        folder: The model itself; the user's own for ``source: path``.
        manifest: Its manifest, inside ``folder`` unless that is the user's.
        stamp: What its files looked like when they were last read whole.
        staging: Where a pull works until everything is there.
    """

    name: str
    folder: Path
    manifest: Path
    stamp: Path
    staging: Path
    is_ours: bool


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model that may be loaded: every file is what the manifest says."""

    path: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One line of ``models list``.

    Attributes:
        state: ``none``: nothing to pull (another engine); ``missing``; ``partial``: a pull began;
            ``damaged``: a file is missing, extra or of another size; ``pulled``: all there, bytes
            not read since they last changed; ``verified``: unchanged since every byte was read.
        bytes: On disk; before the pull what models.yaml says, None if it says nothing.
        revision: Commit of the hub, else None.
    """

    name: str
    state: State
    bytes: int | None
    license: str
    origin: str
    revision: str | None
    presets: tuple[str, ...]


def find_spec(config: Config, name: str) -> ModelSpec:
    """Return a model of models.yaml.

    Raises:
        ModelNotFoundError: there is none of that name.
    """
    models = config.settings.models
    if name not in models:
        raise ModelNotFoundError(f"models.yaml has no model {name!r}; {nearest(name, models)}")
    return models[name]


def describe_source(config: Config, name: str) -> dict[str, object]:
    """Return a model's source as JSON values, files with their absolute path.

    Raises:
        WeightsError: its engine needs no weights here.
    """
    source = find_spec(config, name).source
    match source:
        case None:
            raise WeightsError(f"model {name!r} has no source in models.yaml: nothing to pull")
        case PathSource(path=path):
            return {"path": str(config.locate(path))}
        case GgufSource(gguf=path, sha256=sha256):
            return {"gguf": str(config.locate(path)), "sha256": sha256}
        case _:
            return dict(source.model_dump(mode="json"))


def locate(config: Config, name: str) -> Place:
    """Return where a model lies or will lie."""
    description = describe_source(config, name)
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    # The name is a key of models.yaml: no separator, no leading dot (threats.md T6).
    label = f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    root = config.models_dir
    path = description.get("path")
    folder = root / label if path is None else Path(str(path))
    return Place(
        name,
        folder=folder,
        manifest=folder / MANIFEST if path is None else root / ".manifests" / f"{label}.json",
        stamp=root / ".stamps" / f"{label}.json",
        staging=root / f".partial-{label}",
        is_ours=path is None,
    )


def resolve(config: Config, name: str) -> ModelFiles:
    """Return a model that an engine may load; called before every start.

    Takes milliseconds when no file changed since its bytes were last read, else reads them all. A
    folder of the user's own is recorded at its first use and must stay as it was.

    Raises:
        WeightsError: missing or not what was pulled; names the first wrong file and the remedy.
    """
    place = locate(config, name)
    if not place.is_ours and not place.manifest.exists():
        return record(config, name)
    manifest = check_shape(config, place)
    if not _is_stamped(place, manifest):
        _check_bytes(place, manifest)
    return ModelFiles(place.folder, manifest)


def verify(config: Config, name: str, count: Callable[[int], None] = lambda _: None) -> ModelFiles:
    """Read every byte of a model and compare; ``count`` gets the bytes of each piece.

    Raises:
        WeightsError: as `resolve` does.
    """
    place = locate(config, name)
    manifest = check_shape(config, place)
    _check_bytes(place, manifest, count)
    return ModelFiles(place.folder, manifest)


def record(config: Config, name: str, count: Callable[[int], None] = lambda _: None) -> ModelFiles:
    """Check a folder of the user's own and write down what is in it, outside of it.

    Raises:
        WeightsError: no such folder, or something in it that may not be there.
    """
    place, spec = locate(config, name), find_spec(config, name)
    names = check_folder(place.folder)
    files = hash_files(place.folder, names, count)
    source = describe_source(config, name)
    manifest = Manifest(name, source, spec.license, spec.origin, None, files)
    place.manifest.parent.mkdir(parents=True, exist_ok=True)
    write_manifest(manifest, place.manifest)
    write_stamp(place, manifest)
    return ModelFiles(place.folder, manifest)


def check_shape(config: Config, place: Place) -> Manifest:
    """Compare names and sizes with the manifest, and the manifest with models.lock.

    Raises:
        WeightsError: something differs, or the model is not there.
    """
    if not place.folder.is_dir() or not place.manifest.is_file():
        what = "partly pulled" if place.staging.is_dir() else "missing"
        raise _mendable(place, f"they are {what}")
    try:
        manifest = read_manifest(place.manifest)
        found = set(check_folder(place.folder))
    except WeightsError as error:
        raise _mendable(place, str(error)) from error
    wanted = {file.name: file.size for file in manifest.files}
    for name in sorted(found ^ wanted.keys()):
        raise _mendable(
            place, f"{name} is {'missing' if name in wanted else 'not in the manifest'}"
        )
    for name, size in wanted.items():
        if (actual := (place.folder / name).stat().st_size) != size:
            raise _mendable(place, f"{name} has {actual} bytes, the manifest says {size}")
    _check_lock(config, place, manifest)
    return manifest


def _check_lock(config: Config, place: Place, manifest: Manifest) -> None:
    source = find_spec(config, place.name).source
    if not isinstance(source, HubSource):
        return
    locked = read_lock(config.lock_file).get(place.name)
    if locked is None or not locked.is_for(source):
        return
    files = {file.name: file.sha256 for file in manifest.files}
    if locked.commit != manifest.revision or dict(locked.files) != files:
        raise _mendable(place, f"they are not what {config.lock_file} has written down")


def _check_bytes(
    place: Place, manifest: Manifest, count: Callable[[int], None] = lambda _: None
) -> None:
    before = _look(place, manifest)
    for file in manifest.files:
        if hash_file(place.folder / file.name, count) != file.sha256:
            place.stamp.unlink(missing_ok=True)
            raise _mendable(place, f"{file.name} differs from its manifest")
    write_stamp(place, manifest, before)


def _mendable(place: Place, what: str) -> WeightsError:
    return WeightsError(
        f"weights of {place.name!r}: {what}; run: localfusion models pull {place.name}"
    )


def _look(place: Place, manifest: Manifest) -> dict[str, object]:
    """Return what changes whenever a file's bytes do; ctime cannot be set back by a program."""
    look: dict[str, object] = {"manifest": manifest.digest, "folder": str(place.folder)}
    for file in manifest.files:
        stat = (place.folder / file.name).stat()
        look[f"/{file.name}"] = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    return look


def write_stamp(place: Place, manifest: Manifest, look: dict[str, object] | None = None) -> None:
    """Write down that every byte was read and right; ``look`` as it was before the reading."""
    place.stamp.parent.mkdir(parents=True, exist_ok=True)
    write_whole(place.stamp, json.dumps(look or _look(place, manifest)).encode())


def _is_stamped(place: Place, manifest: Manifest) -> bool:
    try:
        return read_json(place.stamp) == _look(place, manifest)
    except WeightsError:
        return False


def find_status(config: Config, name: str) -> ModelStatus:
    """Say what is known of a model without reading its weights."""
    spec = find_spec(config, name)
    presets = tuple(p for p, preset in config.settings.presets.items() if name in preset.models)
    state, manifest = _find_state(config, name, spec)
    size = manifest.bytes if manifest else spec.facts.weight_bytes if spec.facts else None
    return ModelStatus(
        name,
        state=state,
        bytes=getattr(spec.source, "bytes", None) if size is None else size,
        license=spec.license,
        origin=spec.origin,
        revision=manifest.revision if manifest else None,
        presets=presets,
    )


def _find_state(config: Config, name: str, spec: ModelSpec) -> tuple[State, Manifest | None]:
    if spec.source is None:
        return "none", None
    place = locate(config, name)
    if not place.manifest.is_file() or not place.folder.is_dir():
        is_begun = place.staging.is_dir() or (not place.is_ours and place.folder.is_dir())
        return ("partial" if is_begun else "missing"), None
    try:
        manifest = check_shape(config, place)
    except WeightsError:
        return "damaged", None
    return ("verified" if _is_stamped(place, manifest) else "pulled"), manifest
