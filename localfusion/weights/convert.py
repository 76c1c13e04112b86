"""GGUF to safetensors, as a program of its own: torch and transformers are loaded here alone.

``python -P convert.py GGUF FOLDER THREADS`` writes weights, configuration, tokenizer and template;
``python -P convert.py --check`` says whether the interpreter has what is needed. It may be another
interpreter than localfusion's: nothing of ours is imported. Exit code 3: a package is missing.
"""

import functools
import importlib.util
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

NEEDED = ("torch", "transformers", "gguf", "accelerate", "safetensors")
MISSING_PACKAGE = 3


def main(arguments: list[str]) -> int:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.stderr.write(f"{', '.join(missing)}\n")
        return MISSING_PACKAGE
    if arguments != ["--check"]:
        gguf, folder, threads = arguments
        convert(Path(gguf), Path(folder), int(threads))
    return 0


def convert(file: Path, folder: Path, threads: int) -> None:
    """Write the model in a GGUF file as bfloat16 safetensors.

    Source: the recipe of engines.md 13. Without ``dequantize`` transformers refuses to save.
    """
    hasten(threads)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings()
    if head is not None and torch.equal(embedding, head.weight):
        # Some files store the same matrix twice; kept apart it would be loaded twice too.
        model.config.tie_word_embeddings = True
        model.tie_weights()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def hasten(threads: int) -> None:
    """Replace the three slow parts of gguf's reader; results stay equal to the byte.

    The reader makes a memory-mapped array of every vocabulary entry, transformers reads each file
    three times, and dequantization goes in pieces of 16 rows on one core: 91 s for a 0.5B model,
    17 s with this (2 cores, gguf 0.19, transformers 5.19; docs/log.md).
    """
    import gguf
    import gguf.quants

    gguf.GGUFReader = functools.cache(_reader_class())
    gguf.get_tensor_name_map = functools.cache(gguf.get_tensor_name_map)
    gguf.quants._apply_over_grouped_rows = _row_mapper(threads)


def _reader_class() -> "type[object]":
    import gguf
    import numpy as np

    array, string = gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.STRING

    class Reader(gguf.GGUFReader):  # type: ignore[misc]  # gguf is not seen by mypy
        """Reads arrays in one go instead of entry by entry."""

        @property
        def data(self) -> "npt.NDArray[np.uint8]":
            return self._bytes

        @data.setter
        def data(self, mapped: "npt.NDArray[np.uint8]") -> None:
            # Slices of numpy.memmap are several times slower than those of a plain array.
            self._bytes = mapped.view(np.ndarray)

        def _get_field_parts(
            self, orig_offs: int, raw_type: int
        ) -> "tuple[int, list[object], list[int], list[object]]":
            if raw_type != array:
                parts: tuple[int, list[object], list[int], list[object]]
                parts = super()._get_field_parts(orig_offs, raw_type)
                return parts
            kind, count = self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)
            start, length = orig_offs + 12, int(count[0])
            entries: Sequence[object]
            if int(kind[0]) == string:
                entries, end = _read_strings(self._bytes.data, start, length)
            else:
                width = self.gguf_scalar_to_np[gguf.GGUFValueType(int(kind[0]))]
                values = self._get(start, width, length)
                entries, end = list(values.reshape(-1, 1)), start + values.nbytes
            types = [array, gguf.GGUFValueType(int(kind[0]))] if length else [array]
            return end - orig_offs, [kind, count, *entries], list(range(2, 2 + length)), types

    return Reader


def _read_strings(data: memoryview, start: int, count: int) -> tuple[list[bytes], int]:
    """Return ``count`` strings, each after its length in 8 bytes, and where they end."""
    strings, read_length = [], struct.Struct("<Q").unpack_from
    for _ in range(count):
        (length,) = read_length(data, start)
        strings.append(bytes(data[start + 8 : start + 8 + length]))
        start += 8 + length
    return strings, start


def _row_mapper(threads: int) -> "Callable[..., npt.NDArray[np.float32]]":
    import numpy as np

    pool = ThreadPoolExecutor(threads)
    elements_at_once = 1 << 18  # what a piece needs stays in the second-level cache

    def apply(
        func: "Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]",
        arr: "npt.NDArray[np.uint8]",
        otype: "npt.DTypeLike",
        oshape: tuple[int, ...],
    ) -> "npt.NDArray[np.float32]":
        rows = arr.reshape(-1, arr.shape[-1])
        out = np.empty((rows.shape[0], oshape[-1]), dtype=otype)
        step = max(1, elements_at_once // oshape[-1])

        def convert_rows(first: int) -> None:
            out[first : first + step] = func(rows[first : first + step])

        list(pool.map(convert_rows, range(0, rows.shape[0], step)))
        return out.reshape(oshape)

    return apply


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
