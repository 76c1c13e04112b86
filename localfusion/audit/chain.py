"""The form of the log: a line of JSON for each entry, which names the digest of the one before.

Pure. A change in a line breaks its own digest, a line that is added, moved or taken out that of the
next one. Whole lines that are cut off the end are found only by whoever has noted the head before.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

GENESIS = "0" * 64
"""What the first entry names as the one before."""
MENDED = "mended"
"""Event of an entry behind the torn piece of a process that was killed; it has the digest of it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line that is whole: its place from 1, its digest, and its fields without the digest."""

    number: int
    digest: str
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Fault:
    """A line that is not what was written; ``is_torn``: the end of the log, cut by a kill."""

    line: int
    text: str
    is_torn: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What a log holds; ``head`` is the digest of its last entry that is whole."""

    entries: tuple[Entry, ...]
    faults: tuple[Fault, ...]
    head: str

    @property
    def is_intact(self) -> bool:
        return not self.faults


def encode(fields: Mapping[str, object], before: str) -> tuple[bytes, str]:
    """Return the line of an entry behind the one with digest ``before``, and its own digest."""
    text = _canonical({**fields, "before": before})
    digest = hashlib.sha256(text).hexdigest()
    return text[:-1] + f',"digest":"{digest}"}}\n'.encode(), digest


def decode(line: bytes) -> tuple[dict[str, object], str] | None:
    """Return fields and digest of a line; None: it is no entry, or not the one it was."""
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    digest = fields.pop("digest", None)
    # The bytes themselves are compared: other spellings of the same values are a change too.
    if not isinstance(fields.get("before"), str) or line != _line(fields):
        return None
    return fields, str(digest)


def _line(fields: Mapping[str, object]) -> bytes:
    rest = {key: value for key, value in fields.items() if key != "before"}
    return encode(rest, str(fields["before"]))[0]


def _canonical(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def torn_digest(piece: bytes) -> str:
    """Return what the entry behind a torn piece says of it."""
    return hashlib.sha256(piece).hexdigest()


def verify(lines: Iterable[bytes]) -> Report:
    """Go through a log, given with its line ends, and name every line that is not as written."""
    entries: list[Entry] = []
    faults: list[Fault] = []
    head, torn = GENESIS, None
    for number, line in enumerate(lines, 1):
        found = decode(line)
        if found is None:
            if torn is not None:
                faults.append(torn[0])
            torn = _broken(number, line)
            continue
        fields, digest = found
        if torn is not None:
            if fields.get("event") != MENDED or fields.get("torn") != torn[1]:
                faults.append(torn[0])
            torn = None
        if fields["before"] != head:
            faults.append(
                Fault(number, "does not follow the line before: one is missing, new or changed")
            )
        head = digest
        entries.append(Entry(number, digest, fields))
    if torn is not None:
        faults.append(torn[0])
    return Report(tuple(entries), tuple(faults), head)


def _broken(number: int, line: bytes) -> tuple[Fault, str]:
    """Return the fault of a line that is no entry, and what an entry that mends it would say."""
    if line.endswith(b"\n"):
        return Fault(number, "was changed: its digest is another"), torn_digest(line[:-1])
    text = "is torn: its writer was killed; the next entry notes it"
    return Fault(number, text, is_torn=True), torn_digest(line)
