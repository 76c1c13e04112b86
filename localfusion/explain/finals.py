"""What an answer comes to: how two are told apart, and whether one is right. Pure.

Closed questions are compared by the answer proper, as ``vote`` finds it; others, and texts in which
none is found, by their words: under ``MOVED`` alike, they are two answers.
"""

from dataclasses import dataclass

from localfusion.explain.support import likeness
from localfusion.fusion.agreement.choices import fold
from localfusion.fusion.agreement.extract import Extracted, Extractor, same
from localfusion.fusion.routing import route
from localfusion.fusion.turns import as_text
from localfusion.traces import Head

MOVED = 0.6


@dataclass(frozen=True, slots=True)
class Finals:
    """How answers to one question are compared.

    Attributes:
        extractor: Finds the answer proper, None for an open question.
        expect: The right answer, None: it is not known.
    """

    extractor: Extractor | None = None
    expect: str | None = None

    @classmethod
    def of(cls, head: Head, expect: str | None) -> "Finals":
        """Return how the answers of a run are compared."""
        wanted = head.settings.get("extract")
        extract = None
        if isinstance(wanted, dict):
            extract = Extractor(wanted["kind"], wanted.get("pattern"))
        routing = route(
            as_text(head.request.messages), extract=extract, response_schema=head.request.schema
        )
        return cls(routing.extractor, expect)

    def find(self, text: str) -> Extracted | None:
        """Return the answer proper of a text, where there is one."""
        return None if self.extractor is None else self.extractor.extract(text)

    def shown(self, text: str) -> str | None:
        """Return the answer proper as it stands there."""
        found = self.find(text)
        return None if found is None else found.value if found.kind != "code" else found.shown

    def have_moved(self, before: str, after: str) -> bool:
        """Tell whether two texts are two answers."""
        first, second = self.find(before), self.find(after)
        if first is not None and second is not None:
            return not same(first, second)
        return likeness(before, after) < MOVED

    def is_right(self, text: str) -> bool:
        """Tell whether a text has the expected answer: as its own, or word for word in it."""
        if self.expect is None:
            return False
        wanted = self.find(self.expect) or self.find(f"Answer: {self.expect}")
        if wanted is not None:
            found = self.find(text)
            return found is not None and same(found, wanted)
        words = fold(self.expect)
        return bool(words) and f" {words} " in f" {fold(text)} "
