"""One model that answers the client's own conversation, or calls the client's functions."""

import asyncio
from dataclasses import dataclass, replace

from localfusion.errors import RequestError
from localfusion.functions import Function, Tools
from localfusion.fusion.answering import Answering, Wholeness
from localfusion.fusion.calls import Calls, Reading
from localfusion.fusion.opening import Opening
from localfusion.types import Answer, Message, Prompt, Request, Usage

TOOL_TURN = "tool_turn"
"""Reason of an answer that is one model's: it calls functions, which are never merged."""
NOT_CALLED = "not_called"
"""Reason of an answer that is one model's: it might have asked the panel, and did not."""
FUSION_FUNCTION = "openrouter_fusion"
"""The fusion, as it is shown to a model that decides: without arguments, for the panel reads the
conversation itself."""
_FUSION = Function(
    FUSION_FUNCTION,
    "Ask a panel of other models the same question and get one answer made of theirs. Call it "
    "where the question is hard, open or disputed.",
    {"type": "object", "properties": {}},
)


@dataclass(frozen=True, slots=True)
class Solo:
    """Calls that get the request as it is, with all that the answer is to obey.

    Attributes:
        conversation: The request's, for models that know no functions.
    """

    calls: Calls
    request: Request
    conversation: tuple[Message, ...]
    answering: Answering

    async def speak(
        self, model: str, wholeness: Wholeness, opening: Opening | None = None
    ) -> Answer:
        """Let a model write the answer.

        Args:
            model: Who.
            wholeness: Told before the first word.
            opening: It has begun to; None: it begins now.
        """
        prompt = await self._prompt(model) if opening is None else opening.prompt
        deltas = None if opening is None else opening.deltas()
        reading = Reading()
        with self.calls.noted("synthesis", reading):
            async with self.answering.writing(model, wholeness, reading) as tell:
                await self.calls.read(model, prompt, reading, tell, deltas=deltas)
        return await self.answering.answer()

    async def open(self, model: str) -> Opening:
        """Let a model begin, until it is known whether it calls a function.

        Raises:
            FusionError: it failed.
        """
        prompt = await self._prompt(model)
        opening = Opening(model, prompt, self.calls.stream(model, prompt, "synthesis"))
        began = self.calls.now
        try:
            with self.calls.deadline_of(model):
                async with asyncio.timeout_at(self.calls.at(self.calls.deadline)):
                    await opening.begin()
        finally:
            self.calls.ledger.wait("tools", self.calls.now - began)
        return opening

    async def drop(self, opening: Opening) -> None:
        """End a call whose answer nobody wants, and note what it took."""
        await opening.aclose()
        read = await self.calls.count(opening.model, opening.prompt.messages, opening.prompt.tools)
        usage = Usage(read or 0, opening.pieces, calls=1)
        self.calls.ledger.stage("synthesis", 0.0, usage)

    def _tools(self) -> Tools | None:
        tools = self.request.tools
        if not self.request.may_fuse:
            return tools
        return replace(tools or Tools(()), functions=(*(tools.functions if tools else ()), _FUSION))

    async def _prompt(self, model: str) -> Prompt:
        asked, tools = self.request, self._tools()
        if asked.raw is not None:
            interval = self.calls.answer_interval
            return Prompt(
                (), asked.sampling, logprobs=asked.logprobs, raw=asked.raw, interval=interval
            )
        has_tools = self.calls.engines[model].facts.calls_tools
        if tools is not None and not has_tools:
            raise RequestError(
                f"tools: {model} cannot call functions; leave them out, use another model, or set "
                "its option tool_call_parser in models.yaml",
                code="unsupported_parameter",
                param="tools",
            )
        messages = asked.messages if has_tools else self.conversation
        count = await self.calls.count(model, messages, tools)
        return Prompt(
            messages,
            self.calls.capped(model, asked.sampling, count, None),
            schema=asked.schema,
            effort=asked.effort,
            logprobs=asked.logprobs,
            tools=tools,
            # vLLM's reader of calls loses arguments that come in larger pieces.
            interval=1 if tools else self.calls.answer_interval,
        )
