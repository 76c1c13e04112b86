"""Tokens and calls, and what an engine itself has counted of them."""

import asyncio
import re
from dataclasses import astuple, dataclass
from pathlib import Path

import httpx2

from benches.peers_servers import PeerError

_SERIES = re.compile(r"^vllm:(\w+)\{.*\} (\S+)$", re.MULTILINE)
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Counts:
    """Work of an engine since it started, or between two moments.

    Attributes:
        prompt_tokens: Of all requests, cached ones included.
        cached_tokens: Of those, found in the prefix cache.
        completion_tokens: Sampled, also those of answers that nobody waited for.
        requests: Sequences that ended; n samples of one call are n.
    """

    prompt_tokens: float
    cached_tokens: float
    completion_tokens: float
    requests: float

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: "Counts") -> "Counts":
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Counts(*(now - before for now, before in pairs))


async def read_counts(socket: Path) -> Counts:
    """Wait until an engine is idle and return its counts.

    Raises:
        PeerError: it does not answer.
    """
    transport = httpx2.AsyncHTTPTransport(uds=str(socket))
    async with httpx2.AsyncClient(transport=transport, base_url="http://engine") as client:
        while True:
            try:
                page = (await client.get("/metrics")).text
            except httpx2.TransportError as error:
                raise PeerError(f"the engine at {socket} is gone: {error!r}") from error
            values = sum_series(page)
            if values["num_requests_running"] + values["num_requests_waiting"] == 0:
                return Counts(
                    values["prompt_tokens_total"],
                    values["prefix_cache_hits_total"],
                    values["generation_tokens_total"],
                    values["request_success_total"],
                )
            await asyncio.sleep(_POLL_SECONDS)


def sum_series(page: str) -> dict[str, float]:
    """Return vLLM's series by name, summed over their labels."""
    values: dict[str, float] = {}
    for name, value in _SERIES.findall(page):
        values[name] = values.get(name, 0.0) + float(value)
    return values
