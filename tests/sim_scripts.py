"""Scripts of simulated judges that read their drafts, for tests of what finds a bad one out.

They know the marks of our own prompts: ``[code] draft A``, the draft, and a mark with the same
code.
"""

import re
from collections.abc import Callable, Sequence

from localfusion.types import Prompt

Pick = Callable[[Sequence[str]], str]

_DRAFT = re.compile(r"\[([^\]\s]+)\] draft [A-Z]\n\n(.*?)(?=\n\n\[\1)", re.DOTALL)


def drafts_in(prompt: Prompt) -> list[str]:
    """Return the drafts of a judge's prompt in their order; none where it is no such prompt."""
    return [text for _, text in _DRAFT.findall(prompt.messages[-1].content)]


def picks(pick: Pick, otherwise: str = "There are no drafts.") -> Callable[[Prompt], str]:
    """Script a judge that repeats one of its drafts.

    Args:
        pick: Which, of at least one: ``first``, ``longest`` …
        otherwise: What it says where there is none.
    """

    def script(prompt: Prompt) -> str:
        drafts = drafts_in(prompt)
        return pick(drafts) if drafts else otherwise

    return script


def first(drafts: Sequence[str]) -> str:
    return drafts[0]


def longest(drafts: Sequence[str]) -> str:
    return max(drafts, key=len)
