"""Make a bundle where there is a network; what a killed run left is used by the next.

Everything is gathered in ``.OUT.partial`` beside ``OUT`` and renamed at the end.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from localfusion import __version__, weights
from localfusion.bundle import own_wheel, signature, volumes, wheels
from localfusion.bundle.carried import carried_path, choose_models, not_carried, render_settings
from localfusion.bundle.form import (
    INSTALLER,
    MANIFEST,
    SIGNATURE,
    BundleFile,
    BundleManifest,
    Missing,
    Piece,
    Target,
    volume_name,
)
from localfusion.bundle.hold import holding
from localfusion.bundle.install import REQUIREMENTS, WHEELS
from localfusion.bundle.sbom import render_sbom
from localfusion.config import Config
from localfusion.durable import flush, write_whole
from localfusion.errors import BundleError
from localfusion.weights.manifest import hash_file

SBOM = "sbom.cdx.json"
_APACHE = "Apache-2.0"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a bundle is to be.

    Attributes:
        target: The machine that it is for.
        with_wheels: False for a machine that has localfusion already, or gets it otherwise.
        volume_bytes: Most bytes of files on a volume; None: one folder.
        key: Private key that signs the manifest, or None.
    """

    presets: tuple[str, ...]
    out: Path
    target: Target
    with_wheels: bool = True
    volume_bytes: int | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Created:
    """A finished bundle; ``digest`` is the SHA-256 of its manifest, to be compared by eye."""

    folder: Path
    manifest: BundleManifest
    digest: str


def create(config: Config, wish: Wish, say: Callable[[str], None] = lambda _: None) -> Created:
    """Make a bundle.

    Args:
        config: The loaded models.yaml; its weights must have been pulled.
        wish: What to make.
        say: Told about each step.

    Raises:
        BundleError: the folder exists, a preset is unknown, a key cannot sign, the disk is full.
        WeightsError: a model is missing or not what was pulled.
    """
    out = wish.out.absolute()
    models = choose_models(config, wish.presets)
    if out.exists():
        raise BundleError(f"{out} exists; remove it, or name another folder")
    if wish.key is not None:
        signature.check_key(wish.key)
    stage = out.with_name(f".{out.name}.partial")
    with holding(stage):
        try:
            return _Maker(config, wish, models, stage, say).make(out)
        except OSError as error:
            raise BundleError(
                f"{stage} cannot be written: {error.strerror or error}; make room and run the same "
                "command again: it goes on where it stopped"
            ) from error


class _Maker:
    """One creation: gathers files in ``content`` and remembers what each of them is."""

    def __init__(
        self,
        config: Config,
        wish: Wish,
        models: Sequence[str],
        stage: Path,
        say: Callable[[str], None],
    ) -> None:
        self._config, self._wish, self._models, self._say = config, wish, models, say
        self._stage, self._content = stage, stage / "content"
        self._files: list[BundleFile] = []
        self._missing: list[Missing] = not_carried(config, models)

    def make(self, out: Path) -> Created:
        manifests = self._gather_models()
        found = self._gather_wheels()
        self._gather_texts(manifests)
        digests = [(wheel, self._digest_of(f"{WHEELS}/{wheel.file.name}")) for wheel in found]
        self._write(SBOM, render_sbom(digests, manifests.values()), "sbom")
        self._sweep()
        return self._finish(out)

    def _gather_models(self) -> dict[str, weights.Manifest]:
        manifests = {}
        for name in self._models:
            if self._config.settings.models[name].source is None:
                continue
            self._say(f"{name}: verifying and copying weights")
            found = weights.resolve(self._config, name)
            manifest = manifests[name] = found.manifest
            place = carried_path(name, found.path.name, self._config)
            is_own = place.startswith("own/")
            extra = [] if is_own else [_entry_of(found.path, MANIFEST)]
            for file in (*manifest.files, *extra):
                target = self._content / place / file.name
                _copy(found.path / file.name, target, file.sha256)
                carried = replace(file, name=f"{place}/{file.name}")
                about = (manifest.origin, manifest.revision, manifest.license)
                self._list(carried, "weights", *about)
        return manifests

    def _gather_wheels(self) -> list[wheels.Wheel]:
        if not self._wish.with_wheels:
            self._missing.append(Missing("packages", "left out, as --no-wheels says"))
            return []
        self._say("fetching packages")
        extras = [self._wish.target.accelerator, *(["bundle"] if self._wish.key else [])]
        folder = self._content / WHEELS
        missing = wheels.collect_wheels(self._wish.target, extras, folder)
        self._missing += missing
        found = wheels.read_wheels(folder)
        for wheel in found:
            file = _entry_of(self._content, f"{WHEELS}/{wheel.file.name}")
            self._list(file, "wheel", f"{wheel.name}, a package", wheel.version, wheel.license)
        if not missing:
            digests = {w: self._digest_of(f"{WHEELS}/{w.file.name}") for w in found}
            lines = [f"{w.name}=={w.version} --hash=sha256:{d}\n" for w, d in digests.items()]
            self._write(REQUIREMENTS, "".join(lines), "settings")
        return found

    def _gather_texts(self, manifests: dict[str, weights.Manifest]) -> None:
        settings = render_settings(self._config, self._wish.presets, self._models)
        self._write("models.yaml", settings, "settings")
        if self._config.lock_file.is_file():
            self._write("models.lock", self._config.lock_file.read_text(), "settings")
        for page in sorted(own_wheel.beside_package("docs").glob("*.md")):
            self._write(f"docs/{page.name}", page.read_text(), "docs")
        for name, manifest in manifests.items():
            self._add_license(name, manifest)

    def _add_license(self, name: str, manifest: weights.Manifest) -> None:
        if any(file.name.lower().startswith("license") for file in manifest.files):
            return
        ours = own_wheel.beside_package("LICENSE")
        if manifest.license == _APACHE and ours.is_file():
            self._write(f"licenses/{name}.txt", ours.read_text(), "license")
            return
        why = f"its folder has none; models.yaml says {manifest.license}"
        self._missing.append(Missing(f"license text of {name}", why))

    def _write(self, path: str, text: str, kind: str) -> None:
        file = self._content / path
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text.encode())
        entry = _entry_of(self._content, path)
        self._list(entry, kind, "localfusion", __version__, _APACHE)

    def _list(
        self,
        file: weights.FileEntry,
        kind: str,
        origin: str,
        revision: str | None,
        license_: str,
    ) -> None:
        pieces = (Piece(file.name, file.size, file.sha256),)
        self._files.append(
            BundleFile(
                file.name,
                file.size,
                file.sha256,
                kind,
                origin,
                revision=revision,
                license=license_,
                pieces=pieces,
            )
        )

    def _digest_of(self, path: str) -> str:
        return next(file.sha256 for file in self._files if file.path == path)

    def _sweep(self) -> None:
        """Delete what an earlier run with another wish left in the folder."""
        wanted = {self._content / file.path for file in self._files}
        for path in self._content.rglob("*"):
            if path.is_file() and path not in wanted:
                path.unlink()

    def _finish(self, out: Path) -> Created:
        self._say("writing the manifest")
        content, files, count = self._content, tuple(self._files), 0
        if self._wish.volume_bytes is not None:
            content = self._stage / "volumes"
            shutil.rmtree(content, ignore_errors=True)
            planned, count = volumes.plan_volumes(files, self._wish.volume_bytes)
            files = volumes.deal_out(planned, self._content, content)
        roots = [content / volume_name(n + 1) for n in range(count)] or [content]
        installer = own_wheel.write_installer(self._stage)
        manifest = BundleManifest(
            __version__,
            self._wish.presets,
            tuple(n for n in self._models if self._config.settings.models[n].source is not None),
            self._wish.target,
            installer,
            count,
            files,
            tuple(self._missing),
        )
        self._seal(manifest, roots)
        content.rename(out)
        flush(out.parent)
        shutil.rmtree(self._stage)
        return Created(out, manifest, hashlib.sha256(manifest.render()).hexdigest())

    def _seal(self, manifest: BundleManifest, roots: Iterable[Path]) -> None:
        text = self._stage / MANIFEST
        write_whole(text, manifest.render())
        names = [MANIFEST, INSTALLER]
        if self._wish.key is not None:
            signature.sign(text, self._wish.key, self._stage / SIGNATURE)
            names.append(SIGNATURE)
        for root in roots:
            for name in names:
                write_whole(root / name, (self._stage / name).read_bytes())


def _entry_of(folder: Path, name: str) -> weights.FileEntry:
    """Measure a file that lies below a folder."""
    file = folder / name
    return weights.FileEntry(name, file.stat().st_size, hash_file(file))


def _copy(source: Path, target: Path, sha256: str) -> None:
    """Copy a file unless it is there already; what lies there at last has this digest."""
    if target.is_file() and hash_file(target) == sha256:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, partial)
    if hash_file(partial) != sha256:
        partial.unlink()
        raise BundleError(f"{source} changed while it was copied; run: localfusion models verify")
    flush(partial)
    partial.replace(target)
