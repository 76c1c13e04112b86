"""Asking the scoring model until its reply can be read; what cannot be read is never a verdict."""

import json
from collections.abc import Callable, Mapping
from typing import TypeVar

from localfusion.errors import EngineError, OverloadedError
from localfusion.evals.samples import ScoringModel
from localfusion.types import Message

TRIES = 3
"""The first reply and two retries."""
T = TypeVar("T")


async def graded(
    scoring: ScoringModel,
    asked: str,
    schema: Mapping[str, object],
    read: Callable[[Mapping[str, object]], T | None],
) -> T | None:
    """Return what a model says, None where no try gave a reply that can be read.

    Args:
        scoring: Who is asked.
        asked: The question.
        schema: Of the reply.
        read: Takes what was meant from a reply's fields; None: it has nothing usable.
    """
    for seed in range(TRIES):
        try:
            reply = await scoring.reply((Message("user", asked),), schema, seed=seed)
        except (EngineError, OverloadedError):
            continue
        found = read(_fields(reply))
        if found is not None:
            return found
    return None


def _fields(reply: str) -> Mapping[str, object]:
    try:
        told = json.loads(reply)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
