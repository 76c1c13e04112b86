"""A running localfusion server, spoken to as if it were here: same requests, same events."""

import json
import ssl
from collections.abc import AsyncGenerator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import cast
from urllib.parse import quote

import httpx2

from localfusion import wire
from localfusion.config import Config
from localfusion.errors import FusionError
from localfusion.events import Event, RunFailed
from localfusion.traces import Json, Page, Query
from localfusion.types import Request

CONNECT_SECONDS = 1.0
_EVENT = "fusion_event"


class RemoteError(FusionError):
    """What the server refused or failed at, in its own words."""


class RemoteFusion:
    """The part of Fusion that a client of ``localfusion serve`` can have."""

    def __init__(self, base_url: str, http: httpx2.AsyncClient | None = None) -> None:
        self.base_url = base_url
        self._http = http or http_client(base_url)

    @classmethod
    async def find(
        cls, loaded: Config, *, within: float = CONNECT_SECONDS
    ) -> "RemoteFusion | None":
        """Return the localfusion server at the configured address, None if none answers there."""
        url = loaded.settings.server.url
        remote = cls(url, http_client(url, loaded))
        try:
            response = await remote._http.get("/health", timeout=within)
            if response.json().get("service") == "localfusion":
                return remote
        except (httpx2.HTTPError, ValueError, AttributeError):
            pass  # nobody, or somebody else: then there is no server of ours
        await remote.aclose()
        return None

    async def aclose(self) -> None:
        """Close the connection; a run that is under way is aborted by the server."""
        await self._http.aclose()

    async def stream(self, request: Request) -> AsyncGenerator[Event, None]:
        """Run a request there and yield its events, as Fusion.stream does.

        Raises:
            RemoteError: the server refused it, or the connection broke.
        """
        sampling = {k: v for k, v in asdict(request.sampling).items() if v is not None and v != ()}
        body = {
            "model": request.model,
            "messages": [asdict(message) for message in request.messages],
            "stream": True,
            "fusion": {"stream_panel": True, **request.changes},
            **sampling,
        }
        try:
            async with self._http.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise _refusal(response.json())
                async for line in response.aiter_lines():
                    if line.startswith("data: {"):
                        chunk = json.loads(line.removeprefix("data: "))
                        if "error" in chunk:
                            yield RunFailed(error=_refusal(chunk))
                        elif _EVENT in chunk:
                            yield wire.decode(chunk[_EVENT])
        except (httpx2.HTTPError, ValueError) as error:
            raise RemoteError(f"the server at {self.base_url} broke off: {error}") from error

    async def engines(self) -> dict[str, object]:
        """Return what ``GET /v1/engines`` says.

        Raises:
            RemoteError: the server refused it, or the connection broke.
        """
        return await self._call("GET", "/v1/engines")

    async def load(self, name: str) -> dict[str, object]:
        """Start an engine there; returns when it is ready."""
        return await self._call("POST", f"/v1/engines/{quote(name, safe='')}/load")

    async def unload(self, name: str) -> dict[str, object]:
        """Stop an engine there once its calls have ended."""
        return await self._call("POST", f"/v1/engines/{quote(name, safe='')}/unload")

    async def reload(self) -> dict[str, object]:
        """Have the server read its models.yaml again; says what changed."""
        return await self._call("POST", "/v1/reload")

    async def traces(self, query: Query) -> Page:
        """Return the newest traces that are wanted.

        Raises:
            RemoteError: the server refused it, or the connection broke.
        """
        asked = {
            "limit": query.limit,
            "cursor": query.before,
            "q": query.words,
            "status": query.status,
            "preset": query.preset,
            "policy": query.policy,
            "model": query.model,
        }
        params = {name: str(value) for name, value in asked.items() if value is not None}
        told = await self._call("GET", "/v1/traces", params)
        cursor = told["next_cursor"]
        return Page(cast("list[Json]", told["data"]), None if cursor is None else int(str(cursor)))

    async def trace(self, id: str) -> Json:
        """Return a trace in its JSON form."""
        return await self._call("GET", f"/v1/traces/{quote(id, safe='')}")

    async def replay(self, id: str, changes: Mapping[str, object]) -> Json:
        """Judge a trace's panel once more there; ``changes`` as ``POST …/replay`` takes them."""
        return await self._call("POST", f"/v1/traces/{quote(id, safe='')}/replay", body=changes)

    async def explain(self, id: str, wanted: Mapping[str, object]) -> Json:
        """Explain a trace there; ``wanted`` as ``POST …/explain`` takes it."""
        return await self._call("POST", f"/v1/traces/{quote(id, safe='')}/explain", body=wanted)

    async def delete_trace(self, id: str) -> None:
        """Delete a trace."""
        await self._call("DELETE", f"/v1/traces/{quote(id, safe='')}")

    async def purge_traces(self, before: float) -> int:
        """Delete all traces from before a time, in seconds since 1970; return how many."""
        told = await self._call("DELETE", "/v1/traces", {"before": f"{before:.6f}"})
        return int(str(told["deleted"]))

    async def _call(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        body: Mapping[str, object] | None = None,
    ) -> dict[str, object]:
        try:
            response = await self._http.request(method, path, params=params, json=body)
            told = response.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise RemoteError(f"the server at {self.base_url} broke off: {error}") from error
        if response.status_code != 200:
            raise _refusal(told)
        assert isinstance(told, dict)
        return told


def http_client(base_url: str, loaded: Config | None = None) -> httpx2.AsyncClient:
    """Return a client of a server that waits for answers as long as they take.

    Args:
        base_url: Of the server.
        loaded: Has the key and the server's certificate; None: there are none.
    """
    key = None if loaded is None else loaded.client_key()
    tls = None if loaded is None else loaded.tls
    return httpx2.AsyncClient(
        base_url=base_url,
        headers={} if key is None else {"authorization": f"Bearer {key}"},
        timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
        verify=True if tls is None else _only(tls[0]),
        trust_env=False,
    )


def _only(certificate: Path) -> ssl.SSLContext:
    """Trust the server's own certificate and no other, whatever name it has."""
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    return context


def _refusal(body: dict[str, dict[str, str]]) -> RemoteError:
    error = body["error"]
    return RemoteError(error["message"], code=error.get("code"))
