"""Who may call: the Host and Origin of a request, its key, and what the key allows."""

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from fastapi import Request
from starlette.types import Scope

from localfusion.server import pages
from localfusion.server.envelope import (
    HostNotAllowedError,
    OriginNotAllowedError,
    ScopeError,
    UnauthorizedError,
)
from localfusion.server.keys import LOCAL, KeyFile, digest_of

OPEN_PATHS = frozenset({"/health", "/ready"}) | pages.PATHS
"""Answered without a key: probes, to which ``/ready`` says no more than its status, and the page,
which is the same for everybody."""
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

_ABSOLUTE_TARGET = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.IGNORECASE)
_PORT = re.compile(r":[0-9]{1,5}$")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request.

    Attributes:
        name: Of its key; empty where the server is open to everyone on this machine.
        is_admin: It may steer engines.
    """

    name: str = ""
    is_admin: bool = False


class Access:
    """Decides on every request before any route sees it.

    With no key in the file, and none demanded, everyone who reaches the server may do everything.
    Once a key has been seen one is demanded for good: a file that goes away opens nothing.

    Args:
        hosts: Names by which the server may be called, besides those of loopback.
        keys: None: there are never any.
        local_key: The secret of this user's own commands.
        is_closed: A key is demanded even while there is none.
    """

    def __init__(
        self,
        hosts: Iterable[str] = (),
        keys: KeyFile | None = None,
        local_key: str | None = None,
        *,
        is_closed: bool = False,
    ) -> None:
        self._hosts = frozenset(host.lower() for host in (*LOOPBACK, *hosts))
        self._keys = keys
        self._local = None if local_key is None else digest_of(local_key)
        self._is_closed = is_closed

    def check(self, scope: Scope) -> None:
        """Let a request pass, its caller noted, or refuse it.

        Raises:
            HostNotAllowedError, OriginNotAllowedError: as ``_check_source`` says.
            UnauthorizedError: its key is missing, wrong or not the only one.
            ConfigError: the file of keys is broken; then nobody passes.
        """
        self._check_source(scope)
        caller = self._caller(scope)
        if caller is None and scope["path"] not in OPEN_PATHS:
            raise UnauthorizedError(
                "a valid API key is needed; send it as Authorization: Bearer KEY"
            )
        scope.setdefault("state", {})["caller"] = caller

    def _caller(self, scope: Scope) -> Caller | None:
        keys = () if self._keys is None else self._keys.read()
        self._is_closed = self._is_closed or bool(keys)
        if not self._is_closed:
            return Caller(is_admin=True)
        presented = {_bearer(value) for value in _header(scope, b"authorization")}
        presented |= set(_header(scope, b"x-api-key"))
        if len(presented) != 1:
            return None
        secret = presented.pop()
        return self._known(secret) if secret else None

    def _known(self, secret: str) -> Caller | None:
        key = None if self._keys is None else self._keys.find(secret)
        if self._local is not None and hmac.compare_digest(self._local, digest_of(secret)):
            return Caller(LOCAL, is_admin=True)
        return None if key is None else Caller(key.name, is_admin=key.scope == "admin")

    def _check_source(self, scope: Scope) -> None:
        """Refuse what a web page elsewhere, or a name pointed at us, makes a browser send.

        Raises:
            HostNotAllowedError: any Host value, or the target's own, is not one of ours (DNS
                rebinding, CVE-2024-28224).
            OriginNotAllowedError: another site's page posts to us.
        """
        hosts = _header(scope, b"host")
        target = _ABSOLUTE_TARGET.match(scope.get("state", {}).get("target", b"").decode("latin-1"))
        named = [*hosts, *([target[1]] if target else [])]
        if len(hosts) != 1 or not all(_PORT.sub("", h.lower()) in self._hosts for h in named):
            raise HostNotAllowedError(
                "the Host header names no address of this server; use localhost, 127.0.0.1 or "
                "[::1], or add the name to server.hosts"
            )
        if scope["method"] in _SAFE_METHODS:
            return
        own = {f"http://{hosts[0].lower()}", f"https://{hosts[0].lower()}"}
        sites = _header(scope, b"sec-fetch-site")
        if any(origin.lower() not in own for origin in _header(scope, b"origin")) or any(
            site not in ("same-origin", "none") for site in sites
        ):
            raise OriginNotAllowedError(
                "a page of another site sent this request; call the server from a program"
            )


def caller_of(request: Request) -> Caller | None:
    """Return who sent a request; None: nobody that is known, at an address that is open."""
    return cast("Caller | None", request.scope.get("state", {}).get("caller", Caller("", True)))


def owner_of(scope: Scope) -> str:
    """Return the name of the key that a request came with; empty where there is none."""
    caller = scope.get("state", {}).get("caller")
    return caller.name if isinstance(caller, Caller) else ""


async def require_admin(request: Request) -> None:
    """Refuse who may only ask; a dependency of routes that steer.

    Raises:
        ScopeError: the key's scope is ``use``.
    """
    caller = caller_of(request)
    if caller is None or not caller.is_admin:
        raise ScopeError("this key may not steer the server; use one of scope admin")


def _bearer(value: str) -> str:
    scheme, _, secret = value.partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _header(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]
