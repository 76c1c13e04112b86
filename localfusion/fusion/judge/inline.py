"""The private comparison in front of an answer, held back while the answer streams. Pure."""

from dataclasses import dataclass

OPEN, CLOSE = "<analysis>", "</analysis>"
TOKENS = 240
"""What the comparison may take in addition to the answer: 120 words and its tags."""


@dataclass(slots=True)
class InlineAnalysis:
    """Separates ``<analysis>…</analysis>`` at the very beginning from the answer behind it.

    Attributes:
        limit: Pieces of the stream after which it is cut, for it is not the answer.
        analysis: What was held back, once it has ended or was cut.
        is_cut: It was.
    """

    limit: int = TOKENS
    analysis: str = ""
    is_cut: bool = False
    _held: str = ""
    _pieces: int = 0
    _is_answering: bool = False

    def feed(self, text: str) -> str:
        """Return what of the stream so far the reader may see now."""
        if self._is_answering:
            return text
        self._held += text
        self._pieces += 1
        begun = self._held.lstrip()
        if len(begun) < len(OPEN) and OPEN.startswith(begun):
            return ""  # it may still become one
        if not begun.startswith(OPEN):
            return self._release(self._held)
        inside, found, answer = begun[len(OPEN) :].partition(CLOSE)
        if found:
            if not answer.strip():
                return ""  # line breaks behind it belong to nobody
            self.analysis = inside.strip()
            return self._release(answer.lstrip())
        if self._pieces >= self.limit:
            self.is_cut, self.analysis = True, inside.strip()
        return ""

    def end(self) -> str:
        """Return what is left when the stream has ended: a comparison that nothing followed."""
        if self._is_answering or self.is_cut:
            return ""
        rest = self._held.strip().removeprefix(OPEN).removesuffix(CLOSE)
        return self._release(rest.strip())

    def _release(self, text: str) -> str:
        self._is_answering, self._held = True, ""
        return text
