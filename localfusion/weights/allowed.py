"""Which files a model folder may hold: weights as safetensors, JSON, templates, tokenizers, texts.

Everything else could be code (pickle, Python) or be loaded instead of what was verified, so the
folder is refused, whatever an engine's flags say (threats.md T2, T3).
"""

import os
from fnmatch import fnmatchcase
from pathlib import Path

from localfusion.errors import WeightsError
from localfusion.weights.facts import read_json, weight_files

MANIFEST = "manifest.json"

_ALLOWED = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "*.txt",
    "*.md",
    "*.tiktoken",
    "*.spm",
    "tokenizer.model",
    "tokenizer.model.v*",
    "tekken.json",
    "vocab.*",
    "merges.*",
    "license*",
    "notice*",
    "copying*",
    "use_policy*",
    ".gitattributes",
)
# Endings that the patterns above must not let through: code, pickles, archives.
_NEVER = (".py", ".pyc", ".so", ".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".gguf", ".zip")
# Bookkeeping that ``hf download --local-dir`` leaves behind; no loader looks into it.
_IGNORED_FOLDERS = frozenset({".cache"})


def is_allowed(name: str) -> bool:
    """Say whether a file of this name (without folders) may lie in a model folder."""
    lower = name.lower()
    return not lower.endswith(_NEVER) and any(fnmatchcase(lower, p) for p in _ALLOWED)


def check_folder(folder: Path) -> list[str]:
    """Return the names of all files, relative to ``folder`` and sorted, manifest.json left out.

    Raises:
        WeightsError: a file that may not be there, a link out of the folder, code by ``auto_map``,
            no config.json or no weights; names the file and the remedy.
    """
    if not folder.is_dir():
        raise WeightsError(f"{folder} is no folder")
    root = folder.resolve()
    names = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _IGNORED_FOLDERS]
        for name in (*folders, *files):
            path = Path(parent, name)
            _check_link(path, root)
            if name in files:
                _check_file(path)
                names.append(path.relative_to(folder).as_posix())
    if "config.json" not in names:
        raise WeightsError(f"{folder} has no config.json; give the folder of a whole model")
    weight_files(folder)
    return sorted(name for name in names if name != MANIFEST)


def _check_link(path: Path, root: Path) -> None:
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        raise WeightsError(
            f"{path} is a link out of the model's folder; copy the folder with cp -RL and use that"
        )


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise WeightsError(f"{path} is no regular file; remove it")
    if not is_allowed(path.name):
        raise WeightsError(
            f"{path} may not lie in a model folder: only safetensors, JSON, templates, tokenizer "
            "files and texts are used; remove it, or convert weights to safetensors"
        )
    if path.match("*config*.json"):
        check_no_code(path)


def check_no_code(file: Path) -> None:
    """Refuse a configuration that names Python code of the model's own.

    Raises:
        WeightsError: ``auto_map`` anywhere in it, or no valid JSON.
    """
    values: list[object] = [read_json(file)]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            if "auto_map" in value:
                raise WeightsError(
                    f"{file} has auto_map, which runs Python code that came with the model; choose "
                    "a model that needs none, or remove auto_map if the engine knows the model"
                )
            values.extend(value.values())
        elif isinstance(value, list):
            values.extend(value)
