"""Runs inside the sandbox: tests an answer's code, and tells about each test on its own.

Standard input is the job as JSON. Two processes: the answer's code runs in a child, the *answer*;
the tests run here, in the *tester*, where that code never does. The tester sees the answer's
functions and objects as `Remote`, which ask the child; what comes back is data. So the answer can
end its process, replace builtins or return objects that equal everything: it reaches neither the
tests, nor the comparison, nor standard output, nor the nonce, which the tester reads only after the
child has been forked. Standard library only.
"""

import ast
import builtins
import contextlib
import hashlib
import io
import itertools
import json
import os
import re
import select
import signal
import socket
import sys
import types
from collections.abc import Callable

from localfusion.checks.remote import AnswerDied, Peer, Remote, listed, named, slot

ITERATORS = (
    "generator",
    "map",
    "filter",
    "zip",
    "enumerate",
    "reversed",
    "dict_keys",
    "dict_values",
)
SHOWN = 200
"""Characters of a value in a message."""
DYING_SECONDS = 0.5
"""From the end of the conversation to that of the answer's process."""
LONGEST = 4000
"""Characters of a behavior; a longer one is told by its digest."""


def define(source: str) -> dict[str, object]:
    """Run the answer's code as a module; return its names.

    What it merely does besides, such as an example that it prints, may fail: that is not tested.
    """
    module = types.ModuleType("answer")
    sys.modules["answer"] = module
    for name in ("exit", "quit"):  # which Python has outside a sandbox
        setattr(builtins, name, sys.exit)
    for statement in ast.parse(source).body:
        code = compile(ast.Module([statement], []), "<answer>", "exec")
        try:
            exec(code, module.__dict__)
        except EOFError:  # it reads input, and here is none
            continue
        except BaseException:
            if not isinstance(statement, ast.Expr | ast.Assert):
                raise
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("__") and not isinstance(value, types.ModuleType)
    }


def find_entry(name: str | None) -> object:
    """Return the function that examples call: by its name, or the answer's only one."""
    module = sys.modules["answer"]
    own = [
        value
        for key, value in vars(module).items()
        if not key.startswith("_") and getattr(value, "__module__", None) == "answer"
    ]
    functions = [one for one in own if isinstance(one, types.FunctionType)]
    for kind in own:  # a class Solution, as puzzle sites want it
        if isinstance(kind, type) and (kind.__name__ == "Solution" or not functions):
            methods = [key for key in vars(kind) if not key.startswith("_")]
            if name in methods or (len(methods) == 1 and kind.__name__ == "Solution"):
                return getattr(kind(), name if name in methods else methods[0])
    named = [one for one in functions if one.__name__ == name]
    found = named or (functions if len(functions) == 1 else [])
    if not found:
        raise LookupError("the answer has no single function to call")
    return found[0]


class Tester:
    """Runs the cases against the answer and tells about each."""

    def __init__(self, peer: Peer, job: dict[str, object], tell: Callable[..., None]) -> None:
        self._peer, self._job, self._tell = peer, job, tell
        self._names: dict[str, object] = {"__name__": "tests"}

    def run(self) -> None:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                defined = named(self._peer.ask("define", self._job["program"]))
                with contextlib.suppress(LookupError):
                    defined["candidate"] = self._peer.ask("entry", self._job["entry"])
                exec(compile(str(self._job["setup"]), "<setup>", "exec"), self._names)
                kept = listed(self._job["keep"])
                self._names |= {name: one for name, one in defined.items() if name not in kept}
        except Exception as error:  # noqa: BLE001  the code under test may raise anything
            outcome, detail = self._judge(error)
            self._tell(case=-1, outcome=outcome, detail=f"before any test: {detail}")
            return
        for number, source in enumerate(listed(self._job["cases"])):
            outcome, detail = self._run_case(str(source))
            self._tell(case=number, outcome=outcome, detail=detail)

    def _run_case(self, source: str) -> tuple[str, str]:
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                if self._job["calls"]:
                    return "passed", self._behavior(source, printed)
                if source.startswith(">>>"):
                    self._show(source, printed)
                else:
                    for statement in ast.parse(source).body:
                        self._step(statement)
        except Exception as error:  # noqa: BLE001  the code under test may raise anything
            if self._job["calls"] and self._is_answers(error):
                return "passed", f"raises {type(error).__name__}"
            return self._judge(error, source)
        return "passed", ""

    def _step(self, statement: ast.stmt) -> None:
        match statement:
            case ast.Assert(test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right])):
                got, wanted = self._eval(left), self._eval(right)
                if not got == wanted:
                    raise AssertionError(f"got {_short(got)}")
            case _:
                module = ast.Module([statement], [])
                exec(compile(module, "<case>", "exec"), self._names)

    def _eval(self, expression: ast.expr) -> object:
        return eval(compile(ast.Expression(expression), "<case>", "eval"), self._names)

    def _show(self, source: str, printed: io.StringIO) -> None:
        """Run one example of an interactive session: ``>>>`` lines, then what they show."""
        lines = source.splitlines()
        code = [line for line in lines if line.startswith((">>>", "..."))]
        wanted = "\n".join(lines[len(code) :]).strip()
        text = "\n".join(line[4:] for line in code)
        try:
            exec(compile(text + "\n", "<case>", "single"), self._names)
        except Exception as error:
            name = wanted.splitlines()[-1].partition(":")[0].strip() if wanted else ""
            if wanted.startswith("Traceback") and name.split(".")[-1] == type(error).__name__:
                return
            raise
        got = printed.getvalue().strip()
        if got.split() != wanted.split() and not _same_value(got, wanted):
            raise AssertionError(f"got {_short(got, plain=True)}")

    def _behavior(self, source: str, printed: io.StringIO) -> str:
        if "candidate" not in self._names:
            raise LookupError("the answer has no single function to call")
        pack = {"_pack": lambda *args, **kwargs: (args, kwargs)}
        args, kwargs = eval(f"_pack({source})", pack)
        before = canonical(args)
        function = self._names["candidate"]
        assert isinstance(function, Remote)
        value = canonical(function(*args, **kwargs))
        after = canonical(args)
        changed = "" if after == before else f" changes {after}"
        shown = printed.getvalue()
        whole = f"{value}{changed}" + (f" prints {shown!r}" if shown else "")
        digest = hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()
        return whole if len(whole) <= LONGEST else f"{whole[:SHOWN]}… sha256 {digest}"

    def _judge(self, error: Exception, source: str = "") -> tuple[str, str]:
        """Say whose fault an exception is: the answer's, or a test's that cannot be decided."""
        name = type(error).__name__
        if isinstance(error, ModuleNotFoundError):
            root = re.search(r"'(\w+)", str(error))
            if root is None or root[1] not in sys.stdlib_module_names:
                return "unavailable", f"{error}: the sandbox has Python's own library only"
        if isinstance(error, AssertionError):
            return "failed", str(error) or _line_of(error, source, str(self._job["setup"]))
        if self._is_answers(error):
            return "failed", f"raises {name}: {_short(str(error), plain=True)}"
        if isinstance(error, NameError):
            if error.name == "candidate":
                return "unavailable", "the answer has no single function to call"
            if re.search(rf"\b{re.escape(str(error.name))}\s*\(", source + str(self._job["setup"])):
                return "failed", f"the answer defines no {error.name}"
        return "error", f"{name}: {_short(str(error), plain=True)}"

    @staticmethod
    def _is_answers(error: Exception) -> bool:
        return bool(getattr(error, "from_answer", False))


def canonical(value: object) -> str:
    """Write a value so that equal values of different programs read the same."""
    if isinstance(value, float):
        return f"{value:.10g}" if value else "0"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(canonical, value)))}}}"
    if isinstance(value, dict):
        items = sorted(f"{canonical(key)}: {canonical(one)}" for key, one in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list | tuple):
        inner = ", ".join(map(canonical, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    if isinstance(value, Remote):
        if slot(value, "_kind") in ITERATORS:
            return f"iterates {canonical(list(itertools.islice(iter(value), 1000)))}"
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    return repr(value)


def _same_value(got: str, wanted: str) -> bool:
    try:
        return bool(ast.literal_eval(got) == ast.literal_eval(wanted))
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return False


def _short(value: object, *, plain: bool = False) -> str:
    text = str(value) if plain else repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def _line_of(error: BaseException, source: str, setup: str) -> str:
    """Return the line of the test that raised."""
    texts = {"<case>": source, "<setup>": setup}
    found, trace = "", error.__traceback__
    while trace is not None:
        lines = texts.get(trace.tb_frame.f_code.co_filename, "").splitlines()
        if lines:
            found = lines[trace.tb_lineno - 1].strip()
        trace = trace.tb_next
    return _short(found, plain=True)


def _fork_answer() -> tuple[int, socket.socket]:
    """Start the process of the answer's code; it has neither our input nor our output."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    ours.close()
    nowhere = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    sys.stdin, sys.argv = open(0), ["answer.py"]  # noqa: SIM115  lives as long as the process
    with contextlib.suppress(BaseException):
        Peer(theirs, {"define": define, "entry": find_entry}).serve_forever()
    os._exit(0)


def _how_it_died(pid: int) -> str:
    """Say how the answer's process ended; one that still lives spoke out of turn, and is killed."""
    has_ended, _, _ = select.select([os.pidfd_open(pid)], [], [], DYING_SECONDS)
    if not has_ended:
        os.kill(pid, signal.SIGKILL)
        return "wrote where it has nothing to write"
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status):
        return f"ended its process with exit code {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    if number == signal.SIGXCPU:
        return "used up its CPU time"
    return f"was killed by {signal.Signals(number).name}"


def main() -> None:
    sys.set_int_max_str_digits(0)
    pid, end = _fork_answer()
    job = named(json.loads(sys.stdin.buffer.read()))
    report, reached = os.dup(1), 0
    sys.stdout = io.StringIO()

    def tell(**fields: object) -> None:
        nonlocal reached
        reached = int(str(fields["case"])) + 1
        os.write(report, f"{job['nonce']} {json.dumps(fields)}\n".encode())

    try:
        Tester(Peer(end), job, tell).run()
        os.kill(pid, signal.SIGKILL)
    except AnswerDied:
        end.close()
        tell(case=reached, outcome="failed", detail=f"the program {_how_it_died(pid)}")
