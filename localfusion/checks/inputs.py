"""Thinks up inputs for a function from its signature and the request's examples; pure, no model."""

import ast
import itertools
import re
from collections.abc import Iterator, Sequence

from localfusion.checks.extract import MAX_CHARACTERS, parse, tests_in

_INTEGERS = ("0", "1", "2", "-1", "7", "10", "100", "13")
_NUMBERS = ("0.0", "1.5", "-2.25", "10.0", "3.0", "100.125")
_TEXTS = ("''", "'a'", "'abc'", "'Hello World'", "'racecar'", "'A1 b2, c3!'", "'aabbbc'", "'12'")
_LISTS = (
    "[]",
    "[1]",
    "[3, 1, 2]",
    "[5, 5, 5]",
    "[-1, 0, 1]",
    "[1, 2, 3, 4, 5, 6]",
    "[2, 7, 11, 15]",
)
_POOLS: dict[str, tuple[str, ...]] = {
    "int": _INTEGERS,
    "float": _NUMBERS,
    "complex": _NUMBERS,
    "str": _TEXTS,
    "bool": ("True", "False"),
    "bytes": ("b''", "b'abc'", "b'\\x00\\xff'"),
    "None": ("None",),
    "list": _LISTS,
    "dict": ("{}", "{'a': 1}", "{'b': 2, 'a': 1}"),
    "set": ("set()", "{1}", "{1, 2, 3}"),
    "tuple": ("()", "(1,)", "(3, 1, 2)"),
}
_ALIASES = {
    **dict.fromkeys(("List", "Sequence", "Iterable", "Collection", "MutableSequence"), "list"),
    **dict.fromkeys(("Dict", "Mapping", "MutableMapping"), "dict"),
    **dict.fromkeys(("Set", "frozenset", "FrozenSet", "AbstractSet"), "set"),
    "Tuple": "tuple",
    "Number": "float",
}
# Where there is no hint, names tell: those that nearly everyone uses for one kind.
_USUAL = (
    (r"(s|st|word|text|string|str\d?|s\d|sentence|name|pattern|char|line|prefix)", "str"),
    (r"(nums?|numbers|arr|array|lst|list\d?|l|xs|values|items|data|seq|a|b)s?\d?_?", "list"),
    (r"(words|strings|names|texts|strs)", "words"),
    (r"(matrix|grid|board|matrix\d?)", "grid"),
    (r"(d|dct|dictionary|mapping|counts)", "dict"),
    (r"(is_\w+|flag|reverse|strict)", "bool"),
)
_NAMED_POOLS = {
    "words": ("[]", "['a']", "['b', 'a', 'abc']", "['Hello', 'World', 'Hello']"),
    "grid": ("[[1]]", "[[1, 2], [3, 4]]", "[[0, 1, 0], [1, 1, 0], [0, 0, 1]]"),
    **_POOLS,
}


def inputs_for(code: str, request: str, count: int = 8) -> tuple[str, ...]:
    """Return argument lists such as ``[3, 1], 2``, as Python source, always the same ones.

    Args:
        code: Of one answer; its function's parameters tell what to give.
        request: Its examples come first, and the literals in it are tried, too.
        count: At most so many.
    """
    tests = tests_in(request)
    function = _function(parse(code), tests.entry if tests is not None else None)
    if function is None:
        return ()
    found = dict.fromkeys(_example_args(tests.cases if tests is not None else (), function.name))
    required = len(function.args.args) - len(function.args.defaults)
    literals = _literals(request)
    pools = [
        _pool(parameter, default, literals)
        for parameter, default in _parameters(function)
        if parameter.arg not in ("self", "cls")
    ]
    if not pools:
        return ("",) if required <= 1 else ()
    for arguments in itertools.islice(_mixed(pools), count * 4):
        if len(found) >= count:
            break
        found.setdefault(", ".join(arguments))
    return tuple(found)[:count]


def _function(tree: ast.Module | None, name: str | None) -> ast.FunctionDef | None:
    if tree is None:
        return None
    functions = [one for one in tree.body if isinstance(one, ast.FunctionDef)]
    for kind in tree.body:
        if isinstance(kind, ast.ClassDef) and kind.name == "Solution":
            functions += [one for one in kind.body if isinstance(one, ast.FunctionDef)]
    public = [one for one in functions if not one.name.startswith("_")]
    named = [one for one in public if one.name == name]
    found = named or (public if len(public) == 1 else [])
    return found[0] if found else None


def _parameters(function: ast.FunctionDef) -> list[tuple[ast.arg, ast.expr | None]]:
    plain = [*function.args.posonlyargs, *function.args.args]
    missing = len(plain) - len(function.args.defaults)
    defaults: list[ast.expr | None] = [*([None] * missing), *function.args.defaults]
    return list(zip(plain, defaults, strict=True))


def _example_args(cases: Sequence[str], name: str) -> Iterator[str]:
    """Yield the arguments of every call of the function in the tests that are plain data."""
    for case in cases:
        lines = [line[4:] for line in case.splitlines() if line.startswith((">>>", "..."))]
        tree = parse("\n".join(lines) if case.startswith(">>>") else case)
        for call in ast.walk(tree) if tree is not None else ():
            match call:
                case ast.Call(func=ast.Name(id=found), args=args) if found in (name, "candidate"):
                    if args and not call.keywords and all(_is_data(one) for one in args):
                        yield ", ".join(map(ast.unparse, args))


def _is_data(expression: ast.expr) -> bool:
    try:
        ast.literal_eval(expression)
    except (ValueError, TypeError, MemoryError, RecursionError):
        return False
    return True


def _literals(request: str) -> dict[str, list[str]]:
    text = request[:MAX_CHARACTERS]
    integers = re.findall(r"(?<![\w.])-?\d{1,6}(?![\w.])", text)
    texts = re.findall(r"[\"']([^\"'\\\n]{1,30})[\"']", text)
    return {
        "int": list(dict.fromkeys(str(int(one)) for one in integers))[:4],
        "str": list(dict.fromkeys(map(repr, texts)))[:4],
    }


def _pool(
    parameter: ast.arg, default: ast.expr | None, literals: dict[str, list[str]]
) -> tuple[str, ...]:
    if parameter.annotation is not None:
        pool = _of_hint(parameter.annotation)
        kind = ast.unparse(parameter.annotation)
    else:
        kind = next(
            (kind for names, kind in _USUAL if re.fullmatch(names, parameter.arg)),
            _kind_of(default),
        )
        pool = _NAMED_POOLS[kind]
    own = [ast.unparse(default)] if default is not None and _is_data(default) else []
    return tuple(dict.fromkeys([*own, *pool[:2], *literals.get(kind, ()), *pool[2:]]))


def _kind_of(default: ast.expr | None) -> str:
    if default is not None and _is_data(default):
        kind = type(ast.literal_eval(default)).__name__
        if kind in _POOLS and kind != "NoneType":
            return kind
    return "int"


def _of_hint(hint: ast.expr) -> tuple[str, ...]:
    """Return values for a type hint; integers for what it does not know."""
    match hint:
        case ast.Constant(value=None):
            return _POOLS["None"]
        case ast.Constant(value=str(text)):
            tree = parse(text)
            inner = tree.body[0] if tree is not None and tree.body else None
            return _of_hint(inner.value) if isinstance(inner, ast.Expr) else _INTEGERS
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _merged(_of_hint(left), _of_hint(right))
        case ast.Subscript(value=outer, slice=inner):
            return _of_container(ast.unparse(outer).rpartition(".")[2], inner)
    name = ast.unparse(hint).rpartition(".")[2]
    return _POOLS.get(_ALIASES.get(name, name), _INTEGERS)


def _of_container(name: str, inner: ast.expr) -> tuple[str, ...]:
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    pools = [_of_hint(one) for one in parts if not isinstance(one, ast.Constant) or one.value]
    match _ALIASES.get(name, name):
        case "Optional":
            return _merged(pools[0], _POOLS["None"])
        case "Union":
            return tuple(itertools.chain.from_iterable(pool[:4] for pool in pools))
        case "list":
            return tuple(f"[{', '.join(some)}]" for some in _some(pools[0]))
        case "set":
            full = [some for some in _some(pools[0]) if some]
            return ("set()", *(f"{{{', '.join(some)}}}" for some in full))
        case "dict" if len(pools) == 2:
            pairs = [f"{key}: {one}" for key, one in zip(*pools, strict=False)]
            return tuple(f"{{{', '.join(some)}}}" for some in _some(tuple(pairs)))
        case "tuple" if any(isinstance(one, ast.Constant) for one in parts):  # tuple[int, ...]
            return tuple(f"({''.join(f'{one}, ' for one in some)})" for some in _some(pools[0]))
        case "tuple":
            return tuple(f"({', '.join(some)},)" for some in itertools.islice(_mixed(pools), 6))
    return _INTEGERS


def _merged(pool: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return (*pool[:2], *other[:3], *pool[2:])


def _some(pool: Sequence[str]) -> list[list[str]]:
    """Return collections of a pool's values: none, one, in order, turned round, twice the same."""
    few = list(pool[:6])
    return [[], few[:1], few, few[::-1], [few[-1]] * 3, few[1:4], few[2:] + few[:2]]


def _mixed(pools: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """Yield one value of each pool, each pool at its own pace, so that pairs do not repeat soon."""
    for turn in range(max(map(len, pools)) ** min(len(pools), 3)):
        yield tuple(
            pool[(turn + place * (turn // len(pools[0]) + 1)) % len(pool)]
            for place, pool in enumerate(pools)
        )
