"""What a model folder says about itself: safetensors headers and config.json; no tensor is read.

Format of the header: https://github.com/huggingface/safetensors, section Format.
"""

import json
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from localfusion.errors import WeightsError
from localfusion.memory import Architecture
from localfusion.shape import is_tied, read_architecture

# The limit of the safetensors library itself; a larger header is an attack or no safetensors file.
MAX_HEADER_BYTES = 100_000_000
MAX_JSON_BYTES = 64 << 20
INDEX = "model.safetensors.index.json"

_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a header.

    Attributes:
        dtype: As safetensors spells it, ``BF16``.
        stored_bytes: Length in the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What planning needs to know of a model.

    Attributes:
        shape: Layers and sizes, from config.json.
        stored_bytes: All tensors as they lie on disk.
        weight_bytes: All tensors as they are loaded: float32 counts as bf16, a head tied to the
            embedding does not count.
        parameters: Elements of all tensors; packed integers count as they are stored.
        dtype: The one that holds most bytes, as safetensors spells it.
    """

    shape: Architecture
    stored_bytes: int
    weight_bytes: int
    parameters: int
    dtype: str


def read_facts(folder: Path) -> ModelFacts:
    """Read the figures of the model in ``folder``.

    Raises:
        WeightsError: a file is missing, cut short or not what it claims; it is named.
    """
    file = folder / "config.json"
    config = read_json(file)
    tensors = [tensor for file in weight_files(folder) for tensor in read_header(file)]
    stored: Counter[str] = Counter()
    for tensor in tensors:
        stored[tensor.dtype] += tensor.stored_bytes
    try:
        shape = read_architecture(config)
    except ValueError as error:
        raise WeightsError(f"{file} has {error}; the model is not supported") from error
    return ModelFacts(
        shape=shape,
        stored_bytes=stored.total(),
        weight_bytes=sum(_loaded_bytes(t, is_tied=is_tied(config)) for t in tensors),
        parameters=sum(prod(tensor.shape) for tensor in tensors),
        dtype=max(stored, key=lambda name: stored[name], default="unknown"),
    )


def _loaded_bytes(tensor: Tensor, *, is_tied: bool) -> int:
    if is_tied and tensor.name == "lm_head.weight":
        return 0
    return tensor.stored_bytes // 2 if tensor.dtype == "F32" else tensor.stored_bytes


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that hold the model: those its index names, else all.

    Raises:
        WeightsError: there are none, or one that the index names is missing.
    """
    index = folder / INDEX
    if not index.is_file():
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise WeightsError(f"{folder} has no *.safetensors file; only that format is loaded")
        return files
    mapping = read_json(index).get("weight_map")
    if not isinstance(mapping, dict) or not mapping:
        raise WeightsError(f"{index} has no weight_map")
    names = sorted({str(name) for name in mapping.values()})
    for name in names:
        if "/" in name or "\\" in name or not (folder / name).is_file():
            raise WeightsError(f"{index} names {name!r}, which is not in {folder}")
    return [folder / name for name in names]


def read_header(file: Path) -> list[Tensor]:
    """Read one safetensors header and hold it against the size of the file.

    Raises:
        WeightsError: the file is no safetensors file, or is cut short.
    """
    try:
        with file.open("rb") as stream:
            return parse_header(stream, file.stat().st_size)
    except OSError as error:
        raise WeightsError(f"{file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{file} is no whole safetensors file: {error}") from error


def parse_header(stream: BinaryIO, size: int) -> list[Tensor]:
    """Parse the header of a safetensors stream of ``size`` bytes.

    Raises:
        ValueError: it breaks a rule of the format: length, JSON, dtypes, gaps or overlaps.
    """
    raw_length = stream.read(8)
    length = int.from_bytes(raw_length, "little")
    if len(raw_length) < 8 or length > min(size - 8, MAX_HEADER_BYTES):
        raise ValueError(f"header of {length} bytes in a file of {size}")
    header = json.loads(stream.read(length).decode(), object_pairs_hook=_unique)
    if not isinstance(header, dict):
        raise ValueError("the header is no JSON object")  # noqa: TRY004  one class for the caller
    header.pop("__metadata__", None)
    spans = sorted((_parse_entry(name, value) for name, value in header.items()), key=_by_start)
    position = 0
    for tensor, start, end in spans:
        if start != position:
            raise ValueError(f"gap or overlap before tensor {tensor.name!r}")
        position = end
    if 8 + length + position != size:
        raise ValueError(f"{8 + length + position} bytes announced, {size} there")
    return [tensor for tensor, _, _ in spans]


def _by_start(span: tuple[Tensor, int, int]) -> tuple[int, int]:
    return span[1], span[2]


def _parse_entry(name: str, value: object) -> tuple[Tensor, int, int]:
    match value:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)]}:
            pass
        case _:
            raise ValueError(f"tensor {name!r} is described wrongly")
    if not all(type(side) is int and side >= 0 for side in shape) or not 0 <= start <= end:
        raise ValueError(f"tensor {name!r} has an impossible shape or place")
    if dtype not in _BITS:
        raise ValueError(f"tensor {name!r} has the unknown dtype {dtype!r}")
    if prod(shape) * _BITS[dtype] != 8 * (end - start):
        raise ValueError(f"tensor {name!r} has {end - start} bytes, which its shape does not fill")
    return Tensor(name, dtype, tuple(shape), end - start), start, end


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands there twice")
    return result


def read_json(file: Path) -> dict[str, object]:
    """Read a JSON object from a file of bounded size.

    Raises:
        WeightsError: missing, too large, or no JSON object.
    """
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            raise WeightsError(f"{file} is larger than {MAX_JSON_BYTES} bytes")
        value = json.loads(file.read_bytes())
    except OSError as error:
        raise WeightsError(f"{file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{file} is no valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{file} is no JSON object")
    return value
