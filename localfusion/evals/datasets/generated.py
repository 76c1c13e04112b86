"""Tasks with exact answers, made by reasoning-gym 0.1.25 from a seed: in nobody's training.

Families whose tasks depend on the hash seed or on today's date are left out, and so are those whose
checker pays for garbage. Difficulty is set so that small models are right sometimes.
"""

import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any, Literal

from localfusion.errors import ConfigError
from localfusion.evals import INSTALL
from localfusion.evals.samples import Dataset, Sample
from localfusion.fusion.agreement.extract import Kind
from localfusion.types import Message

Level = Literal["small", "large"]
_ASK = "\n\nEnd with the final answer alone between <answer> and </answer>."
MOST = 10_000
"""Tasks of a family that can be told apart; they are made when they are looked at."""

KINDS: Mapping[str, Kind] = {
    "chain_sum": "number",
    "basic_arithmetic": "number",
    "products": "number",
    "gcd": "number",
    "lcm": "number",
    "count_bits": "number",
    "base_conversion": "text",
    "simple_equations": "number",
    "leg_counting": "number",
    "letter_counting": "number",
    "number_sequence": "number",
    "gsm_symbolic": "number",
    "syllogism": "boolean",
    "family_relationships": "text",
    "aiw": "number",
    "word_sorting": "text",
    "knights_knaves": "text",
}
"""Families, and how an answer of theirs is found in a text that does not tag it."""

SMALL: Mapping[str, Mapping[str, object]] = {
    "chain_sum": {"min_terms": 2, "max_terms": 3, "min_digits": 1, "max_digits": 2},
    "products": {"min_digits": 1, "max_digits": 2},
    "simple_equations": {
        "min_terms": 2,
        "max_terms": 2,
        "max_value": 20,
        "operators_weights": [0.5, 0.5, 0.0],
    },
    "leg_counting": {"min_animals": 1, "max_animals": 2, "max_instances": 5},
    "letter_counting": {"min_words": 3, "max_words": 5},
    "number_sequence": {"max_complexity": 1, "min_value": 0, "max_value": 50},
    "gsm_symbolic": {},
    "syllogism": {},
}
"""Settings of the families for models of up to some two billion weights."""

LARGE: Mapping[str, Mapping[str, object]] = {
    "basic_arithmetic": {"min_terms": 4, "max_terms": 8, "min_digits": 2, "max_digits": 4},
    "products": {"min_digits": 3, "max_digits": 4},
    "lcm": {"min_numbers": 3, "max_numbers": 3, "max_value": 200},
    "base_conversion": {"min_value": 1000, "max_value": 20000},
    "leg_counting": {"min_animals": 6, "max_animals": 12},
    "letter_counting": {"min_words": 15, "max_words": 30},
    "number_sequence": {"max_complexity": 4},
    "gsm_symbolic": {},
    "syllogism": {},
    "family_relationships": {"min_family_size": 6, "max_family_size": 9},
    "word_sorting": {"min_words": 8, "max_words": 14},
    "knights_knaves": {"n_people": 4},
}
_LEVELS: Mapping[str, Mapping[str, Mapping[str, object]]] = {"small": SMALL, "large": LARGE}


def generate(name: str, level: Level, each: int, seed: int) -> Dataset:
    """Return a data set of every family of a level, in turns: any first part of it is balanced.

    Args:
        name: Of the suite.
        level: Which families, how hard.
        each: Tasks of each family.
        seed: The same gives the same tasks.

    Raises:
        ConfigError: reasoning-gym is not installed.
    """
    samples = tuple(
        _sample(family, level, seed, index) for index in range(each) for family in _LEVELS[level]
    )
    return Dataset(name, samples, f"reasoning-gym 0.1.25, level {level}, seed {seed}")


def check_answer(gold: Mapping[str, object], answer: str) -> float:
    """Return what the family's own checker gives an answer, 0 to 1.

    Raises:
        ConfigError: reasoning-gym is not installed.
    """
    index = int(str(gold["index"]))
    family, level, seed = str(gold["family"]), str(gold["level"]), int(str(gold["seed"]))
    made = _made(family, level, seed)
    return float(made.score_answer(answer, made[index]))


def _sample(family: str, level: Level, seed: int, index: int) -> Sample:
    entry = _made(family, level, seed)[index]
    return Sample(
        f"{family}-{index}",
        family,
        (Message("user", entry["question"].strip() + _ASK),),
        "generated",
        {
            "family": family,
            "level": level,
            "seed": seed,
            "index": index,
            "kind": KINDS[family],
            "answer": entry["answer"],
        },
    )


@cache
def _made(family: str, level: str, seed: int) -> Any:  # noqa: ANN401  a class without types
    """Return a family's data set; its tasks are made when they are looked at."""
    settings = dict(_LEVELS[level][family])
    gym = _gym()
    return gym.create_dataset(family, size=MOST, seed=seed, **settings)


@cache
def _gym() -> ModuleType:
    try:
        with warnings.catch_warnings():
            # One of its libraries is warned of when it is compiled: once, at a first use.
            warnings.simplefilter("ignore", SyntaxWarning)
            import reasoning_gym  # its import takes seconds
    except ImportError as error:
        raise ConfigError(f"reasoning-gym is not installed; run {INSTALL}") from error
    return reasoning_gym  # type: ignore[no-any-return]


def families(level: Level) -> Sequence[str]:
    """Return the names of a level's families."""
    return tuple(_LEVELS[level])
