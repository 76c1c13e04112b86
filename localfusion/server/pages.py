"""The web page: fixed files of the package, the same for everybody, without anything of a user's.

Nobody needs a key to load them: what the page shows comes from the API, with the key that is typed
into it. The policy below lets a browser load nothing else and turn no text into a document.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType

from fastapi import APIRouter, Request, Response

from localfusion.server.envelope import NotFoundError

HTML, STYLE, SCRIPT, IMAGE = "text/html", "text/css", "text/javascript", "image/svg+xml"
INDEX = "index.html"
FILES: Mapping[str, str] = MappingProxyType(
    {
        "icon.svg": IMAGE,
        "base.css": STYLE,
        "parts.css": STYLE,
        "run.css": STYLE,
        "timeline.css": STYLE,
        **dict.fromkeys(
            (
                "analysis.js",
                "answer.js",
                "api.js",
                "app.js",
                "ask.js",
                "asking.js",
                "compare.js",
                "diff.js",
                "dom.js",
                "engines.js",
                "evaluations.js",
                "explain.js",
                "format.js",
                "members.js",
                "models.js",
                "notes.js",
                "options.js",
                "presets.js",
                "replay.js",
                "run.js",
                "sse.js",
                "text.js",
                "timeline.js",
                "trace.js",
                "traces.js",
            ),
            SCRIPT,
        ),
    }
)
"""What lies under ``/static/``, with its type; nothing else can be asked for."""

PATHS = frozenset({"/", *(f"/static/{name}" for name in FILES)})
"""Addresses that are open to whoever reaches the server."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)

_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "content-security-policy": POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        # Asked about each time, which costs a 304: another version of the server is seen at once.
        "cache-control": "no-cache",
    }
)


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    kind: str
    etag: str

    def answer(self, request: Request) -> Response:
        headers = {**_HEADERS, "etag": self.etag}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.kind, headers=headers)


def page_routes() -> APIRouter:
    """Build the routes of the page; its files are read once, here."""
    router = APIRouter(include_in_schema=False)
    index = _read(INDEX, HTML)
    files = {name: _read(name, kind) for name, kind in FILES.items()}

    @router.head("/")
    @router.get("/")
    async def page(request: Request) -> Response:
        return index.answer(request)

    @router.head("/static/{name}")
    @router.get("/static/{name}")
    async def static(name: str, request: Request) -> Response:
        if name not in files:
            raise NotFoundError("the page has no such file; load / again")
        return files[name].answer(request)

    return router


def _read(name: str, kind: str) -> _File:
    content = (resources.files(__package__) / "web" / name).read_bytes()
    return _File(content, kind, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
