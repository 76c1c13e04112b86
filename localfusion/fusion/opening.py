"""The beginning of an answer that may become a call of functions, or text and so a draft."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from localfusion.config import MAX_CANDIDATES
from localfusion.fusion.panel import Call, Stream
from localfusion.types import Delta, Prompt


class Opening:
    """A call that has begun: what came until it was known what it becomes, and the rest.

    Attributes:
        model: Who was called, with ``prompt``.
        function: The one that it calls, None where it does not.
    """

    def __init__(self, model: str, prompt: Prompt, stream: AsyncGenerator[Delta, None]) -> None:
        self.model = model
        self.prompt = prompt
        self.function: str | None = None
        self._stream = stream
        self._begun: list[Delta] = []

    async def begin(self) -> None:
        """Read until there is text, a call of a function, or the end."""
        async for delta in self._stream:
            self._begun.append(delta)
            if delta.tool_calls:
                self.function = delta.tool_calls[0].name
            if delta.text.strip() or delta.tool_calls:
                return

    async def deltas(self) -> AsyncGenerator[Delta, None]:
        """Yield all of it; to be read once."""
        async with aclosing(self._stream) as rest:
            for delta in self._begun:
                yield delta
            async for delta in rest:
                yield delta

    @property
    def pieces(self) -> int:
        """How many have come."""
        return len(self._begun)

    async def aclose(self) -> None:
        """End the call, where nobody reads on."""
        await self._stream.aclose()

    def join(self, calls: Sequence[Call]) -> list[Call]:
        """Make it one of the panel's calls: instead of its model's own first, else beside all.

        A full panel of others loses its last.
        """
        places = [place for place, call in enumerate(calls) if call.model == self.model]
        joined = list(calls)
        if not places and len(joined) < MAX_CANDIDATES:
            return [*joined, Call(joined[-1].index + 1, self.model, self.prompt)]
        place = places[0] if places else len(joined) - 1
        joined[place] = replace(joined[place], model=self.model, prompt=self.prompt)
        return joined

    def before(self, stream: Stream) -> Stream:
        """Return what makes calls, with this one already made."""

        def call(model: str, prompt: Prompt) -> AsyncGenerator[Delta, None]:
            return self.deltas() if prompt is self.prompt else stream(model, prompt)

        return call
