"""A client of chat completions, as plain as can be; notes when the first character comes."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import httpx2

from benches.peers_servers import PeerError


@dataclass(slots=True)
class Stream:
    """A streamed answer, with what came in its chunks beside the text.

    Attributes:
        first: When its first character came; all times on the clock of ``time.perf_counter``.
        status: As localfusion tells it; others tell none, which counts as full.
    """

    began: float
    first: float = 0.0
    ended: float = 0.0
    text: str = ""
    finish: str = ""
    status: str = "full"
    usage: Mapping[str, object] = field(default_factory=dict)

    def take(self, line: str) -> None:
        """Take in a line of server-sent events.

        Raises:
            PeerError: it tells of a failure.
        """
        if not line.startswith("data: {"):
            return
        chunk = json.loads(line.removeprefix("data: "))
        if "error" in chunk:
            raise PeerError(f"it ended with {chunk['error']}")
        self.usage = chunk.get("usage") or self.usage
        if told := chunk.get("fusion"):
            lost = [f"{one['index']}={one['failure_reason']}" for one in told.get("lost", ())]
            self.status = " ".join([told["status"], str(told.get("reason")), *lost])
        for choice in chunk.get("choices", ()):
            text = choice["delta"].get("content") or ""
            if text and not self.text:
                self.first = time.perf_counter()
            self.text += text
            self.finish = choice.get("finish_reason") or self.finish


def chat(model: str, text: str, max_tokens: int, temperature: float) -> dict[str, object]:
    """Return the body of a chat request."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": max_tokens,
        "temperature": temperature,
    }


def endless(body: dict[str, object], ends: Iterable[int]) -> dict[str, object]:
    """Return the body of a request whose answer runs to its limit: no end token may be drawn."""
    return body | {"logit_bias": {str(token): -100 for token in ends}}


async def whole(url: str, body: Mapping[str, object]) -> str:
    """Return an answer that is not streamed."""
    try:
        async with httpx2.AsyncClient(timeout=None, trust_env=False) as client:
            response = await client.post(f"{url}/chat/completions", json=body)
    except httpx2.TransportError as error:
        raise PeerError(f"{url} broke off: {error!r}") from error
    if response.status_code != 200:
        raise PeerError(f"{url} answered {response.status_code}: {response.text[:300]}")
    text: str = response.json()["choices"][0]["message"]["content"]
    return text


async def stream(url: str, body: Mapping[str, object]) -> Stream:
    """Read a streamed answer to its end.

    Raises:
        PeerError: it failed, or had no text.
    """
    got = Stream(time.perf_counter())
    body = {**body, "stream": True, "stream_options": {"include_usage": True}}
    try:
        async with (
            httpx2.AsyncClient(timeout=None, trust_env=False) as client,
            client.stream("POST", f"{url}/chat/completions", json=body) as response,
        ):
            if response.status_code != 200:
                await response.aread()
                raise PeerError(f"{url} answered {response.status_code}: {response.text[:300]}")
            async for line in response.aiter_lines():
                got.take(line)
    except httpx2.TransportError as error:
        raise PeerError(f"{url} broke off: {error!r}") from error
    got.ended = time.perf_counter()
    if not got.text:
        raise PeerError(f"{url} sent a stream without text")
    return got
