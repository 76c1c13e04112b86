"""Fact sheets: which of the known entries an answer states, and which false ones.

Entries are unique names with unique numbers, so that plain text search decides.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from localfusion.evals.samples import Sample, Score, digest_of
from localfusion.evals.scorers.exact import plain

VERSION = 1


@dataclass(frozen=True, slots=True)
class FactsScorer:
    """Gold: ``facts``, name to value; ``errors``, name to a false value. Worth: share of facts met.

    ``parts`` has ``fact:NAME`` and ``error:NAME``; a stated error takes its fact's share away.
    """

    @property
    def identity(self) -> str:
        return digest_of(["facts", VERSION])

    async def score(self, sample: Sample, text: str) -> Score:
        answer = plain(text)
        facts, errors = _mapping(sample.gold["facts"]), _mapping(sample.gold.get("errors", {}))
        stated = {name: states(answer, name, value) for name, value in facts.items()}
        wrong = {name: states(answer, name, value) for name, value in errors.items()}
        parts: dict[str, bool | None] = {f"fact:{name}": met for name, met in stated.items()}
        parts |= {f"error:{name}": met for name, met in wrong.items()}
        good = sum(met and not wrong.get(name, False) for name, met in stated.items())
        found = any(stated.values()) or any(wrong.values())
        return Score(good / len(facts), extracted="facts" if found else None, parts=parts)


def states(text: str, name: str, value: str) -> bool:
    """Tell whether a line of a text has both a name and its value, as whole words."""
    wanted = re.compile(rf"(?<![\w.]){re.escape(value)}(?![\w]|[.,]\d)")
    known = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)
    pieces = re.split(r"\n|(?<=[.;])\s", text.replace(",", ""))
    return any(known.search(piece) and wanted.search(piece) for piece in pieces)


def _mapping(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    return {str(name): str(entry).replace(",", "") for name, entry in value.items()}
