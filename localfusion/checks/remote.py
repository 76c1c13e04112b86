"""Lets the tests of an answer use its functions and objects, which live in another process.

Part of what runs inside the sandbox (harness.py); standard library only. The two processes send
each other lines of JSON: plain data by value, everything else as a number that its owner
understands. What the answer sends is never more than data to the tester: no code, no pickles.
"""

import builtins
import collections
import contextlib
import datetime
import decimal
import fractions
import io
import json
import operator
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

PLAIN = (bool, int, float, str)
MUTABLE = (list, dict, set, bytearray, collections.deque)
SEQUENCES: dict[str, Callable[[Iterable[object]], Iterable[object]]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": collections.deque,
}
DICTS = (dict, collections.Counter, collections.OrderedDict, collections.defaultdict)
SPELLED: dict[str, tuple[type, Callable[[str], object]]] = {
    "Decimal": (decimal.Decimal, decimal.Decimal),
    "Fraction": (fractions.Fraction, fractions.Fraction),
    "complex": (complex, complex),
    "date": (datetime.date, datetime.date.fromisoformat),
    "datetime": (datetime.datetime, datetime.datetime.fromisoformat),
}
ARITHMETIC = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")
OPERATORS = (*ARITHMETIC, "matmul", "lt", "le", "gt", "ge", "getitem", "contains", "delitem")
"""All that a test may do to an object besides calling it and asking for its attributes."""


class AnswerDied(BaseException):
    """The answer's process is gone; not an Exception, for a test must not catch it."""


NONSENSE = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError)
"""What a message that is not one of ours raises."""


class UndecidableError(Exception):
    """A comparison that only the answer's own code could decide."""


class Peer:
    """One end of the conversation: asks the other, and serves what it asks meanwhile."""

    def __init__(
        self, end: socket.socket, verbs: Mapping[str, Callable[..., object]] | None = None
    ) -> None:
        self._stream = end.makefile("rwb")
        self._is_tester = verbs is None
        self._verbs = {**common_verbs(), **(verbs or {})}
        self._lent: list[object] = []
        self._numbers: dict[int, int] = {}
        self._classes: dict[int, type[Exception]] = {}

    def ask(self, what: str, *args: object, **kwargs: object) -> object:
        """Have the other side do something and return its value, or raise its exception."""
        packed = [self.encode(arg) for arg in args]
        named = {name: self.encode(arg) for name, arg in kwargs.items()}
        self._send({"do": what, "args": packed, "kwargs": named})
        while True:
            told = self._receive()
            if "do" in told:
                self._serve(told)
                continue
            sys.stdout.write(str(told.get("out", "")))
            try:
                result = self._result(told, args)
            except NONSENSE as error:
                raise AnswerDied from error
            if "error" in told:
                assert isinstance(result, Exception)
                raise result
            return result

    def _result(self, told: dict[str, object], args: Sequence[object]) -> object:
        changed = listed(told["args"]) if "args" in told else []
        for mine, theirs in zip(args, changed, strict=False):
            _take_over(mine, self.decode(theirs))
        if "error" not in told:
            return self.decode(told["value"])
        fields = named(told["error"])
        kind = self.decode(fields["kind"])
        if not isinstance(kind, type) or not issubclass(kind, Exception):
            raise TypeError("not an exception")
        error = kind.__new__(kind)
        error.args = tuple(self.decode(arg) for arg in listed(fields["args"]))
        error.from_answer = True  # type: ignore[attr-defined]  # tells it from a fault of the test
        return error

    def serve_forever(self) -> None:
        with contextlib.suppress(AnswerDied):
            while True:
                self._serve(self._receive())

    def _serve(self, asked: dict[str, object]) -> None:
        printed = io.StringIO()
        reply: dict[str, object] = {}
        args: list[object] = []
        before: list[object] = []
        try:
            args = [self.decode(arg) for arg in listed(asked["args"])]
            before = [self.encode(arg) if type(arg) in MUTABLE else None for arg in args]
            kwargs = {name: self.decode(arg) for name, arg in named(asked["kwargs"]).items()}
            with contextlib.redirect_stdout(printed):
                reply["value"] = self.encode(self._verb(str(asked["do"]))(*args, **kwargs))
        except AnswerDied:
            raise
        except BaseException as error:  # noqa: BLE001  whatever the code raises is its result
            reply = {"error": self._told(error)}
        after = [self.encode(arg) if type(arg) in MUTABLE else None for arg in args]
        if after != before:
            reply["args"] = after
        reply["out"] = printed.getvalue()
        self._send(reply)

    def _verb(self, what: str) -> Callable[..., object]:
        if self._is_tester and what != "call":
            raise PermissionError(what)  # the answer may call the functions it was given, no more
        return self._verbs[what]

    def _told(self, error: BaseException) -> dict[str, object]:
        args = [self.encode(arg) for arg in error.args if type(arg) in PLAIN]
        try:
            text = str(error)[:1000]
        except Exception as again:  # noqa: BLE001  the answer's own __str__
            text = f"({type(again).__name__} in its text)"
        return {"kind": self.encode(type(error)), "args": args or [text], "text": text}

    def encode(self, value: object) -> object:
        kind = type(value)
        if value is None or kind in PLAIN:
            return value
        if kind in DICTS:
            assert isinstance(value, dict)
            return ["dict", [[self.encode(key), self.encode(one)] for key, one in value.items()]]
        name = kind.__name__
        if SEQUENCES.get(name) is kind:
            return [name, [self.encode(one) for one in value]]  # type: ignore[attr-defined]
        if isinstance(value, bytes | bytearray) and kind in (bytes, bytearray):
            return [name, value.hex()]
        if name in SPELLED and SPELLED[name][0] is kind:
            text = value.isoformat() if isinstance(value, datetime.date) else str(value)
            return [name, text]
        if isinstance(value, range):
            return ["range", [value.start, value.stop, value.step]]
        return self._refer(value)

    def _refer(self, value: object) -> object:
        if isinstance(value, Remote):
            return ["yours", slot(value, "_id")]
        if self._is_tester and not callable(value):
            raise UndecidableError(f"a test hands the answer an object of {type(value).__name__}")
        number = self._numbers.setdefault(id(value), len(self._lent))
        if number == len(self._lent):
            self._lent.append(value)  # which also keeps its id from being used again
        if isinstance(value, type) and issubclass(value, BaseException):
            builtin = [one.__name__ for one in value.__mro__ if one.__module__ == "builtins"]
            return ["exception", [number, value.__name__, builtin]]
        bases: tuple[Callable[[object], object], ...] = (int, float, str, tuple, list, dict, bytes)  # type: ignore[assignment]  # each takes itself
        for base in bases:
            if isinstance(value, base):  # type: ignore[arg-type]  # a namedtuple, an IntEnum
                plain = self.encode(base(value))
                return ["mine", [number, type(value).__name__, [plain]]]
        return ["mine", [number, type(value).__name__, []]]

    def decode(self, packed: object) -> object:
        if not isinstance(packed, list):
            return packed
        name, inner = packed
        if name == "dict":
            return {self.decode(key): self.decode(one) for key, one in inner}
        if name in SEQUENCES:
            return SEQUENCES[name](self.decode(one) for one in inner)
        if name in ("bytes", "bytearray"):
            return bytes.fromhex(inner) if name == "bytes" else bytearray.fromhex(inner)
        if name == "range":
            return range(*inner)
        if name in SPELLED:
            return SPELLED[name][1](inner)
        if name == "yours":
            return self._lent[inner]
        if name == "exception":
            return self._class(*inner)
        number, kind, plain = inner
        if not self._is_tester:
            return lambda *args, **kwargs: self.ask(
                "call", Remote(self, number, kind), *args, **kwargs
            )
        return Remote(self, number, kind, *(self.decode(one) for one in plain))

    def _class(self, number: int, name: str, bases: list[str]) -> type[Exception]:
        """Return our stand-in for the other side's class of exceptions, always the same one."""
        known = self._classes.get(number)
        if known is not None:
            return known
        found = [getattr(builtins, base, None) for base in bases]
        base = next(one for one in [*found, Exception] if _is_exception(one))
        assert base is not None
        made = base if base.__name__ == name else type(name, (base,), {})
        self._classes[number] = made
        return made

    def _send(self, message: dict[str, object]) -> None:
        try:
            self._stream.write(json.dumps(message).encode() + b"\n")
            self._stream.flush()
        except OSError as error:
            raise AnswerDied from error

    def _receive(self) -> dict[str, object]:
        try:
            line = self._stream.readline()
            if not line:
                raise AnswerDied
            return named(json.loads(line))
        except (
            OSError,
            ValueError,
            TypeError,
            RecursionError,
        ) as error:  # gone, or it wrote into the line
            raise AnswerDied from error


class Remote:
    """An object of the answer's process, as the tests see it."""

    __slots__ = ("_id", "_kind", "_peer", "_plain")
    _peer: Peer

    def __init__(self, peer: Peer, number: int, kind: str, *plain: object) -> None:
        for name, value in (("_peer", peer), ("_id", number), ("_kind", kind), ("_plain", plain)):
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> object:
        return self._peer.ask("getattr", self, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._peer.ask("setattr", self, name, value)

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self._peer.ask("call", self, *args, **kwargs)

    def __setitem__(self, key: object, value: object) -> None:
        self._peer.ask("setitem", self, key, value)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Remote):
            return slot(self, "_id") == slot(other, "_id") or bool(
                self._peer.ask("eq", self, other)
            )
        plain = slot(self, "_plain")
        assert isinstance(plain, tuple)
        if not plain:
            raise UndecidableError(
                f"compares an object of the answer's class {slot(self, '_kind')}"
            )
        return bool(plain[0] == other)

    def __hash__(self) -> int:
        return hash(slot(self, "_id"))

    def __iter__(self) -> Iterator[object]:
        found = self._peer.ask("iter", self)
        return found if isinstance(found, Remote) else iter(())

    def __next__(self) -> object:
        return self._peer.ask("next", self)

    def __enter__(self) -> object:
        return self._peer.ask("enter", self)

    def __exit__(self, *_: object) -> None:
        self._peer.ask("exit", self)

    def __instancecheck__(self, value: object) -> bool:
        return bool(self._peer.ask("isinstance", value, self))

    def __len__(self) -> int:
        found = self._peer.ask("len", self)
        return found if isinstance(found, int) else -1

    def __bool__(self) -> bool:
        return bool(self._peer.ask("bool", self))

    def __str__(self) -> str:
        return str(self._peer.ask("str", self))

    def __repr__(self) -> str:
        return str(self._peer.ask("repr", self))


def _add_operators() -> None:
    def forward(name: str, *, is_turned: bool) -> Callable[[Remote, object], object]:
        def operate(self: Remote, other: object) -> object:
            pair = (other, self) if is_turned else (self, other)
            return self._peer.ask(name, *pair)

        return operate

    for name in OPERATORS:
        setattr(Remote, f"__{name}__", forward(name, is_turned=False))
    for name in ARITHMETIC:
        setattr(Remote, f"__r{name}__", forward(name, is_turned=True))


def common_verbs() -> dict[str, Callable[..., object]]:
    verbs: dict[str, Callable[..., object]] = {
        name: getattr(operator, name) for name in (*OPERATORS, "eq", "setitem")
    }
    for function in (getattr, setattr, isinstance, iter, next, len, bool, str, repr):
        verbs[function.__name__] = function
    verbs["call"] = lambda function, *args, **kwargs: function(*args, **kwargs)
    verbs["enter"] = lambda manager: manager.__enter__()
    verbs["exit"] = lambda manager: manager.__exit__(None, None, None)
    return verbs


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


def slot(remote: Remote, name: str) -> object:
    return object.__getattribute__(remote, name)


def _take_over(mine: object, theirs: object) -> None:
    """Do to an argument what the answer did to its copy."""
    match mine, theirs:
        case (list(), list()) | (bytearray(), bytearray()):
            mine[:] = theirs  # type: ignore[index]  # of a mutable sequence
        case (dict(), dict()) | (set(), set()):
            mine.clear()  # type: ignore[attr-defined]  # both have it
            mine.update(theirs)  # type: ignore[attr-defined]  # likewise
        case collections.deque(), collections.deque():
            mine.clear()
            mine.extend(theirs)


def listed(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def named(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return value


_add_operators()
