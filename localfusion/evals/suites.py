"""Suites by name: what ``localfusion eval run SUITE`` asks; built in, or read from a file."""

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from localfusion.config import nearest
from localfusion.errors import ConfigError
from localfusion.evals.datasets import (
    bbh,
    code_tasks,
    fact_sheets,
    generated,
    gsm8k,
    humaneval,
    mmlu,
    mt_bench,
    pairs,
    rubrics,
)
from localfusion.evals.samples import Dataset, Sample

EACH = 25
"""Tasks of each family of the generated suites."""
SHEETS = 50

SUITES: Mapping[str, str] = {
    "small": "8 families of generated tasks with exact answers, for models up to some 2B weights",
    "standard": "12 families of generated tasks with exact answers, hard enough for 7B to 30B",
    "facts": "made-up reports whose numbers an answer must carry over",
    "code": "small Python functions, run against tests in the sandbox",
    "gsm8k": "--data FILE.jsonl: question, answer",
    "mmlu": "--data FILE.csv or a folder of them",
    "mt-bench": "--data FOLDER with question.jsonl and reference answers; needs a scoring model",
    "llmbar": "--data FILE.json or a folder: pairs of answers, which one is better",
    "judgebench": "--data FILE.jsonl: pairs of answers, which one is better",
    "humaneval": "--data FILE.jsonl or .jsonl.gz: functions with tests",
    "bbh": "--data FILE.json or a folder of them",
    "open": "--data FILE.jsonl: your own questions with weighted criteria; needs a scoring model",
    "draco": "--data FILE.jsonl: DRACO's questions and criteria; needs a scoring model",
}

_BUILT_IN: Mapping[str, Callable[[int], Dataset]] = {
    "small": lambda seed: generated.generate("small", "small", EACH, seed),
    "standard": lambda seed: generated.generate("standard", "large", EACH, seed),
    "facts": lambda seed: fact_sheets.generate(SHEETS, seed),
    "code": lambda _: code_tasks.generate(),
}
_READERS: Mapping[str, Callable[[Path], Iterator[Sample]]] = {
    "gsm8k": gsm8k.read,
    "mmlu": mmlu.read,
    "mt-bench": mt_bench.read,
    "llmbar": pairs.read_llmbar,
    "judgebench": pairs.read_judgebench,
    "humaneval": humaneval.read,
    "bbh": bbh.read,
    "open": rubrics.read,
    "draco": rubrics.read,
}
_NOTES = {
    "draco": rubrics.NOTE,
    "gsm8k": "in every model's training: shows the machinery, not quality",
}


def load_suite(
    name: str, *, limit: int | None = None, seed: int = 0, data: Path | None = None
) -> Dataset:
    """Return a suite's samples.

    Args:
        name: One of ``SUITES``.
        limit: At most so many, of all tasks alike; the same seed gives the same ones.
        seed: Of what is generated or drawn.
        data: The user's file or folder, for the suites that read one.

    Raises:
        ConfigError: there is no such suite, it needs a file and gets none, or gets one and needs
            none.
        DatasetError: a file cannot be read; names file, line and field.
    """
    if name not in SUITES:
        raise ConfigError(f"there is no suite {name[:64]!r}; {nearest(name, SUITES)}")
    if name in _BUILT_IN:
        if data is not None:
            raise ConfigError(f"--data: suite {name} is built in; leave it out")
        whole = _BUILT_IN[name](seed)
    else:
        if data is None:
            raise ConfigError(f"suite {name} reads a file of yours: {SUITES[name]}")
        samples = tuple(_READERS[name](data.expanduser()))
        whole = Dataset(name, _in_turns(samples, seed), data.name, _NOTES.get(name, ""))
    if limit is None:
        return whole
    return Dataset(whole.name, whole.samples[:limit], whole.source, whole.note)


def _in_turns(samples: tuple[Sample, ...], seed: int) -> tuple[Sample, ...]:
    """Return samples shuffled and dealt by task, so that any first part has all tasks alike."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.task, []).append(sample)
    for task, group in groups.items():
        random.Random(f"{seed}/{task}").shuffle(group)
    rounds = max(map(len, groups.values()), default=0)
    return tuple(
        group[place] for place in range(rounds) for group in groups.values() if place < len(group)
    )
