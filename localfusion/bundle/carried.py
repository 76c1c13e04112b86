"""The models.yaml of a bundle: its presets and their models, and nothing that is not carried."""

from collections.abc import Sequence

import yaml

from localfusion.bundle.form import Missing
from localfusion.config import Config, GgufSource, PathSource, nearest
from localfusion.errors import BundleError

_HEADER = """\
# Written by `localfusion bundle create`: the presets of this bundle and the models they use.
# docs/models-yaml.md describes every key.
"""


def choose_models(config: Config, presets: Sequence[str]) -> tuple[str, ...]:
    """Return the models of some presets, with those that stand in for them.

    Raises:
        BundleError: a preset that models.yaml does not define.
    """
    known = config.settings.presets
    for name in presets:
        if name not in known:
            raise BundleError(f"{config.file} has no preset {name!r}; {nearest(name, known)}")
    models = config.settings.models
    waiting = [name for preset in presets for name in known[preset].models]
    found: dict[str, None] = {}
    while waiting:
        name = waiting.pop(0)
        fallback = models[name].fallback
        if name not in found and fallback is not None:
            waiting.append(fallback)
        found[name] = None
    return tuple(found)


def carried_path(name: str, label: str, config: Config) -> str:
    """Return where a model's folder lies in the bundle, below which an install puts ``cache``."""
    is_own = isinstance(config.settings.models[name].source, PathSource | GgufSource)
    return f"own/{name}" if is_own else f"models/{label}"


def render_settings(config: Config, presets: Sequence[str], models: Sequence[str]) -> str:
    """Return models.yaml as it will lie on the other machine."""
    dumped = config.settings.model_dump(mode="json", exclude_unset=True)
    entries = {name: _entry(config, name, dumped["models"][name]) for name in models}
    aliases = {k: v for k, v in dumped.get("aliases", {}).items() if v in {*models, *presets}}
    document = {
        **{k: v for k, v in dumped.items() if k not in ("engine_python", "aliases")},
        "default_preset": {"gpu": presets[0], "cpu": presets[0]},
        **({"aliases": aliases} if aliases else {}),
        "models": entries,
        "presets": {name: dumped["presets"][name] for name in presets},
    }
    return _HEADER + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)


def _entry(config: Config, name: str, dumped: dict[str, object]) -> dict[str, object]:
    if isinstance(config.settings.models[name].source, PathSource | GgufSource):
        # The source was a place on this machine; there it is a folder that the bundle brings.
        return {**dumped, "source": {"path": f"cache/own/{name}"}}
    return dumped


def not_carried(config: Config, models: Sequence[str]) -> list[Missing]:
    """List what models.yaml names and no bundle carries: secrets, certificates, other servers."""
    server = config.settings.server
    secrets = {"tls_cert": server.tls_cert, "tls_key": server.tls_key, "keys": server.keys}
    found = [
        Missing(f"server.{key}: {path}", "secrets are never carried")
        for key, path in secrets.items()
        if path is not None
    ]
    for name in models:
        spec = config.settings.models[name]
        if spec.engine == "openai":
            found.append(Missing(f"model {name}", f"it is a server of its own, {spec.base_url}"))
        if spec.api_key_file is not None:
            found.append(Missing(f"{spec.api_key_file} of {name}", "secrets are never carried"))
    return found
