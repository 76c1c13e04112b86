"""Stop words, taken off a text as it comes. Pure.

vLLM holds back as many characters as its longest stop word has, less one, whatever they are: an
answer's first word comes two or three tokens late. Asked to leave the stop word in the text it
holds nothing back. Here only an end of the text that may become a stop word waits.
"""

from collections.abc import Sequence


class StopWords:
    """One text of a server that ends it behind the first stop word.

    Args:
        words: Not empty ones; none: the text passes as it is.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._held = ""

    def take(self, text: str) -> str:
        """Return what of the text so far, behind what was returned before, stands for certain."""
        text = self._held + text
        kept = len(text) - max((_overlap(text, word) for word in self._words), default=0)
        self._held = text[kept:]
        return text[:kept]

    def end(self) -> str:
        """Return the rest once the text has ended, without the stop word that ended it."""
        held, self._held = self._held, ""
        found = [word for word in self._words if held.endswith(word)]
        return held.removesuffix(max(found, key=len)) if found else held


def _overlap(text: str, word: str) -> int:
    """Return how many characters at the end of a text are the beginning of a word."""
    lengths = range(min(len(text), len(word)), 0, -1)
    return next((length for length in lengths if text.endswith(word[:length])), 0)
