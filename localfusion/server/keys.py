"""API keys: who may use the server and who may steer it. Only digests of keys are stored.

A key is 256 random bits: a plain SHA-256 of it cannot be searched back, so no slow hash is needed.
"""

import fcntl
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from localfusion.config.section import Sha256
from localfusion.errors import ConfigError

PREFIX = "lf-"
LOCAL = "local"
"""Name of the key that a server gives to this user's own commands while it runs."""

Scope = Literal["use", "admin"]
KeyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Key(BaseModel):
    """A key without its secret."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: KeyName
    scope: Scope
    """``use``: ask and look; ``admin``: load, unload and reload too."""
    sha256: Sha256
    created: datetime


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[Key, ...] = ()


class KeyFile:
    """The keys of a server; a change of the file holds from the next request on.

    Args:
        path: JSON, 0600 in a folder of 0700; without it there are no keys.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._keys: tuple[Key, ...] = ()

    def read(self) -> tuple[Key, ...]:
        """Return all keys.

        Raises:
            ConfigError: the file is broken, or others may write to it.
        """
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self._seen, self._keys = None, ()
            return ()
        state = (found.st_mtime_ns, found.st_size, found.st_ino)
        if state != self._seen:
            self._keys = self._parse(found.st_mode)
            self._seen = state
        return self._keys

    def find(self, secret: str) -> Key | None:
        """Return the key with this secret; all are compared, whichever it is.

        Raises:
            ConfigError: as ``read`` says.
        """
        digest = digest_of(secret)
        found = None
        for key in self.read():
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    def create(self, name: str, scope: Scope) -> str:
        """Make a key and return its secret, which is shown this once.

        Raises:
            ConfigError: the name is taken or none, or the file cannot be written.
        """
        secret = PREFIX + secrets.token_urlsafe(32)
        try:
            key = Key(
                name=name,
                scope=scope,
                sha256=digest_of(secret),
                created=datetime.now(UTC).replace(microsecond=0),
            )
        except ValidationError as error:
            raise ConfigError(
                "a key's name has letters, digits, dots and dashes, 64 at most; choose another"
            ) from error
        with self._locked():
            known = self.read()
            if name in (LOCAL, *(other.name for other in known)):
                raise ConfigError(
                    f"there is a key {name} already; revoke it or choose another name"
                )
            self._write((*known, key))
        return secret

    def revoke(self, name: str) -> None:
        """Remove a key.

        Raises:
            ConfigError: there is none of this name, or the file cannot be written.
        """
        with self._locked():
            known = self.read()
            kept = tuple(key for key in known if key.name != name)
            if len(kept) == len(known):
                names = ", ".join(key.name for key in known) or "none"
                raise ConfigError(f"there is no key {name}; known: {names}")
            self._write(kept)

    def _parse(self, mode: int) -> tuple[Key, ...]:
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(f"{self.path}: others may write to it; chmod 600 {self.path}")
        try:
            return _File.model_validate_json(self.path.read_bytes()).keys
        except (OSError, ValidationError) as error:
            # pydantic's own message would show the file's content.
            raise ConfigError(
                f"{self.path} is no list of keys; restore it, or remove it and create the keys anew"
            ) from error

    def _write(self, keys: tuple[Key, ...]) -> None:
        write_private(self.path, _File(keys=keys).model_dump_json(indent=1) + "\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise ConfigError(f"{self.path}: {error.strerror}; set server.keys") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


@contextmanager
def local_key(path: Path) -> Iterator[str]:
    """Yield a key for this user's own commands, in a private file that goes away with the block.

    Raises:
        ConfigError: it cannot be written.
    """
    secret = PREFIX + secrets.token_urlsafe(32)
    write_private(path, secret)
    try:
        yield secret
    finally:
        path.unlink(missing_ok=True)


def digest_of(secret: str) -> str:
    """Return what is stored of a key."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def write_private(path: Path, text: str) -> None:
    """Write a file that this user alone can read, whole or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ConfigError(
            f"{path}: {error.strerror}; set LOCALFUSION_STATE to a folder of yours"
        ) from error
