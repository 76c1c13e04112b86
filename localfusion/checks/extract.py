"""Finds code in an answer and tests in a request, by reading alone: nothing here runs either."""

import ast
import builtins
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

MAX_CHARACTERS = 200_000
"""Longer texts are not read: Python's own parser takes what memory it wants."""
MAX_CASES = 100
_LONGEST_ASSERT = 30
"""Lines."""
_LONGEST_LINE = 500
"""Characters of a line that may be an example."""
_PYTHON = ("python", "py", "python3")
_FENCE = re.compile(r"[ \t]*(```|~~~)[`~]*[ \t]*([\w+-]*)")
_NAMED = re.compile(
    r"(?:function|method)[ ](?:called[ ]|named[ ])?[`'\"](\w+)|[`'\"](\w+)\([^`'\"]*\)[`'\"]|"
    r"^[ \t]*(?:async[ ])?def[ ]+(\w+)|function[ ](?:called|named)[ ](\w+)",
    re.MULTILINE,
)
_EXAMPLE = re.compile(
    r"^(?:[-*•]|\d+[.)])?\s*(?:#\s*)?(?:e\.g\.,?|[Ee]xamples?:?|[Ff]or example,?)?\s*"
    r"`?(?P<call>\w+\(.*\))`?\s*"
    r"(?:->|=>|→|➞|==|=|#\s*(?:->|=>|→)?|(?:should\s+)?(?:returns?|gives?|evaluates\s+to|outputs?))"
    r"\s*`?(?P<result>[^`]+?)`?[.;,]?\s*(?:#.*)?$",
)
_INPUT = re.compile(
    r"^[ \t>*-]*(?:sample[ ]|example[ ])?input[ ]?\d*\**[ ]?:\**[ \t]*(?P<given>\S[^\n]*)\n"
    r"[\s>*-]*(?:sample[ ]|expected[ ])?output[ ]?\d*\**[ ]?:\**[ \t]*(?P<result>\S[^\n]*)",
    re.MULTILINE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Tests:
    """What an answer's code must do.

    Attributes:
        cases: Python statements, or one example of an interactive session (``>>> f(1)`` and what it
            shows); run in this order with the same names, each counted. ``candidate`` stands for
            the function.
        entry: That function's name, or None: the answer's only one.
        setup: Runs before the cases: imports and what the tests define.
        keep: Names of the setup that the answer's own may not replace, such as ``check``.
    """

    cases: tuple[str, ...]
    entry: str | None = None
    setup: str = ""
    keep: tuple[str, ...] = ()


def parse(source: str) -> ast.Module | None:
    """Parse Python, or return None for what is none, or too long or deep to tell."""
    if len(source) > MAX_CHARACTERS:
        return None
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def code_in(answer: str) -> str | None:
    """Return the Python code of an answer, None where it has none.

    Of several blocks, the last if it defines all that the others do, otherwise all that define
    something, in their order.
    """
    blocks = [(kind, code) for kind, code in _fenced(answer)[0] if kind in (*_PYTHON, "")]
    parsed = [(code, tree) for _, code in blocks if (tree := parse(code)) and _is_code(tree)]
    defining = [(code, _defined(tree)) for code, tree in parsed if _defined(tree)]
    if defining:
        last, names = defining[-1]
        everything = set().union(*(names for _, names in defining))
        return last if names >= everything else "\n\n".join(code for code, _ in defining)
    if parsed:
        return parsed[-1][0]
    broken = [code for kind, code in blocks if kind in _PYTHON]
    if broken:
        return broken[-1]
    tree = parse(answer)
    return answer if tree is not None and _is_code(tree) else None


def tests_in(request: str) -> Tests | None:
    """Find the tests that a request states, None where it states none.

    Asserts, ``check(candidate)``, functions ``test_…`` and interactive sessions; only where there
    are none of these, examples such as ``f(1, 2) -> 3``, and ``Input: … Output: …``.
    """
    if len(request) > MAX_CHARACTERS:
        return None
    whole = parse(request)
    blocks, prose = _fenced(request)
    trees = [tree for _, code in blocks if (tree := parse(code)) is not None]
    if whole is not None:
        trees, prose = [whole], ""
    trees += [ast.Module([one], []) for one in _loose_asserts(prose)]
    setup, cases, keep = _scripts(trees)
    cases += _sessions(request)
    entry = _entry(request)
    if not cases:
        cases, entry = _examples(request, entry)
    if not cases:
        return None
    return Tests(tuple(dict.fromkeys(cases))[:MAX_CASES], entry, "\n".join(setup), tuple(keep))


def _fenced(text: str) -> tuple[list[tuple[str, str]], str]:
    """Return the fenced blocks of a text, as (kind, code), and the text without them."""
    blocks: list[tuple[str, str]] = []
    prose: list[str] = []
    inside: tuple[str, str] | None = None
    code: list[str] = []
    for line in text[:MAX_CHARACTERS].splitlines():
        fence = _FENCE.match(line)
        if inside is None and fence is not None:
            inside, code = (fence[1], fence[2].lower()), []
        elif inside is None:
            prose.append(line)
        elif fence is not None and fence[1] == inside[0] and fence.end() == len(line.rstrip()):
            blocks.append((inside[1], _block(code)))
            inside = None
        else:
            code.append(line)
    if inside is not None:  # cut off before its end
        blocks.append((inside[1], _block(code)))
    return blocks, "\n".join(prose)


def _block(lines: list[str]) -> str:
    return textwrap.dedent("\n".join(lines)) + "\n"


def _is_code(tree: ast.Module) -> bool:
    """Tell a program from a word: ``Yes`` parses, too."""
    kinds = (ast.Constant, ast.Name, ast.Tuple, ast.UnaryOp, ast.BinOp, ast.Compare)
    return any(
        not isinstance(one, ast.Expr) or not isinstance(one.value, kinds) for one in tree.body
    )


def _defined(tree: ast.Module) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {one.name for one in tree.body if isinstance(one, kinds)}


def _loose_asserts(prose: str) -> Iterator[ast.stmt]:
    """Yield the assert statements that stand in a text, each over one line or more."""
    lines = prose.splitlines()
    starts = [number for number, line in enumerate(lines) if "assert" in line[:_LONGEST_LINE]]
    for start in starts[:MAX_CASES]:
        line = lines[start]
        first = re.sub(r"^[\s>*•`-]*(?:\d+[.)])?\s*`?(?=assert\b)", "", line)
        if not first.startswith("assert"):
            continue
        for end in range(start + 1, min(start + _LONGEST_ASSERT, len(lines)) + 1):
            tree = parse("\n".join([first, *lines[start + 1 : end]]).strip().strip("`"))
            if tree is not None:
                yield from (one for one in tree.body if isinstance(one, ast.Assert))
                break


def _scripts(trees: list[ast.Module]) -> tuple[list[str], list[str], list[str]]:
    """Return setup, cases and the names to keep, of test programs."""
    setup: list[str] = []
    cases: list[str] = []
    keep: list[str] = []
    for tree in trees:
        names = _defined(tree)
        tests = sorted(name for name in names if name == "check" or name.startswith("test_"))
        asserts = [one for one in tree.body if isinstance(one, ast.Assert)]
        if not tests and not asserts:
            continue
        keep += tests + [name for one in asserts for name in _comparing(one, names)]
        pending: list[str] = []
        for statement in tree.body:
            text = ast.unparse(statement)
            if isinstance(statement, ast.Assert):
                cases.append("\n".join([*pending, text]))
                pending = []
            elif isinstance(statement, _DECLARATIONS):
                setup.append(text)
            elif not _is_call_of(statement, tests):
                pending.append(text)
        cases += ["check(candidate)" if name == "check" else f"{name}()" for name in tests]
    return setup, cases, keep


_DECLARATIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _comparing(statement: ast.Assert, names: set[str]) -> list[str]:
    """Return the tests' own function in ``assert close(area(1), 3.14)``: what compares."""
    match statement.test:
        case ast.Call(func=ast.Name(id=name), args=args) if name in names:
            inner = [one for arg in args for one in ast.walk(arg) if isinstance(one, ast.Call)]
            return [name] if inner else []
    return []


def _is_call_of(statement: ast.stmt, names: list[str]) -> bool:
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Name(id=name))):
            return name in names
        case ast.If():  # if __name__ == "__main__"
            return True
    return False


def _sessions(text: str) -> list[str]:
    """Return the examples of interactive sessions, each one's steps without a result before it."""
    found: list[str] = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        code: list[str] = []
        shown: list[str] = []
        while at < len(lines) and re.match(
            r"\s*>>> " if not code else r"\s*\.\.\.( |$)", lines[at]
        ):
            code.append(lines[at].strip())
            at += 1
        if not code:
            at += 1
            continue
        while at < len(lines) and not re.match(r"\s*(>>> |```|\"\"\"|'''|$)", lines[at]):
            shown.append(lines[at].strip())
            at += 1
        if parse("\n".join(line[4:] for line in code)) is not None:
            found.append("\n".join([*code, *shown]))
    return found


def _entry(request: str) -> str | None:
    """Return the function that the request asks for, if it names one alone."""
    names = {name for groups in _NAMED.findall(request) for name in groups if name}
    wanted = {name for name in names if name != "check" and not name.startswith("test_")}
    return wanted.pop() if len(wanted) == 1 else None


def _examples(request: str, entry: str | None) -> tuple[list[str], str | None]:
    """Return cases from ``f(1, 2) -> 3`` and ``Input: … Output: …``, and the function they call."""
    calls: list[tuple[str, str, object]] = []
    for line in request.splitlines():
        found = _EXAMPLE.match(line.strip()) if len(line) <= _LONGEST_LINE else None
        if found is not None:
            calls += _read_call(found["call"], found["result"])
    names = {name for name, _, _ in calls if not hasattr(builtins, name)}
    if entry is None and len(names) == 1:
        entry = names.pop()
    wanted = [_case(args, result) for name, args, result in calls if name == entry]
    if not wanted:
        for found in _INPUT.finditer(request):
            given, shown = (found[part].strip(" `\t") for part in ("given", "result"))
            for _, args, result in _read_call(f"candidate({given})", shown):
                wanted.append(_case(args, result))
    return wanted, entry


def _read_call(call: str, result: str) -> list[tuple[str, str, object]]:
    """Return name, arguments and result if all of them are plain data, else nothing."""
    tree = parse(call)
    try:
        wanted = ast.literal_eval(result.strip())
        match tree:
            case ast.Module(body=[ast.Expr(value=ast.Call(func=ast.Name(id=name)) as found)]):
                # By position: what an example calls its arguments, an answer may call otherwise.
                values = [*found.args, *(keyword.value for keyword in found.keywords)]
                args = ", ".join(repr(ast.literal_eval(value)) for value in values)
                return [(name, args, wanted)]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return []
    return []


def _case(args: str, result: object) -> str:
    if isinstance(result, float):  # an example shows as many digits as it likes
        digits = len(repr(result).partition(".")[2]) if "e" not in repr(result) else 12
        return f"assert abs(candidate({args}) - {result!r}) <= {0.5000001 * 10**-digits!r}"
    return f"assert candidate({args}) == {result!r}"
