"""A YAML document that remembers the line of every key, to say where an error is.

Plain data only: no aliases, no tags, bounded in size and depth, so that no file can do more than be
wrong. What the keys mean is ``config``'s.
"""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from localfusion.errors import ConfigError

MAX_NODES = 20_000
MAX_DEPTH = 20

Place = tuple[str | int, ...]
KeyNames = Callable[[Place, Iterable[str]], list[str]]


class Document:
    """The values of one YAML file and the line where each stands."""

    def __init__(self, file: Path, raw: bytes) -> None:
        """Parse the file.

        Raises:
            ConfigError: no valid YAML, an alias, a key that stands twice, too many values.
        """
        self._file = file
        self._lines: dict[Place, int] = {(): 0}
        self.value: object = None
        try:
            self._refuse_structure(raw)
            root = yaml.compose(raw, yaml.CSafeLoader)
            if root is not None:
                self.value = self._build(root, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            line = mark.line if mark else 0
            raise self.error(line, f"no valid YAML: {error.problem}") from error
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise self.error(0, f"no valid YAML: {reason}; save it as UTF-8 text") from error

    def explain(self, error: ValidationError, key_names: KeyNames) -> ConfigError:
        """Turn pydantic's findings into one error: line number, key and remedy of each."""
        findings = [self._explain_one(item, key_names) for item in error.errors()]
        return ConfigError("\n".join(dict.fromkeys(findings)))

    def error(self, line: int, message: str) -> ConfigError:
        return ConfigError(f"{self._file}:{line + 1}: {message}")

    def _refuse_structure(self, raw: bytes) -> None:
        # Before any tree is built: a few hundred bytes of brackets or aliases could exhaust the
        # stack or the memory.
        depth = nodes = 0
        for event in yaml.parse(raw, yaml.CSafeLoader):
            line = event.start_mark.line if event.start_mark else 0
            if isinstance(event, yaml.AliasEvent):
                raise self.error(line, "aliases (*name) are not allowed; write the value again")
            if isinstance(event, yaml.NodeEvent):
                nodes += 1
            if getattr(event, "tag", None) is not None:
                raise self.error(line, "tags (!!name) are not allowed; write the value alone")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MAX_DEPTH:
                raise self.error(line, f"nested deeper than {MAX_DEPTH} levels; flatten it")
            if nodes > MAX_NODES:
                raise self.error(line, f"more than {MAX_NODES} values; shorten the file")

    def _build(self, node: yaml.Node, place: Place) -> object:
        self._lines.setdefault(place, node.start_mark.line)
        if isinstance(node, yaml.SequenceNode):
            return [self._build(item, (*place, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._build_mapping(node, place)
        try:
            return yaml.CSafeLoader("").construct_object(node)
        except (ValueError, OverflowError) as error:  # 2026-13-45 looks like a date to YAML
            line = node.start_mark.line
            raise self.error(line, f"no valid value: {error}; put it in quotes") from error

    def _build_mapping(self, node: yaml.MappingNode, place: Place) -> object:
        result: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.error(line, "a key is a plain word; write it as `key: value`")
            key = str(key_node.value)
            if key in result:
                raise self.error(line, f"{key} stands here twice; remove one")
            self._lines[(*place, key)] = line
            result[key] = self._build(value_node, (*place, key))
        return result

    def _explain_one(self, item: ErrorDetails, key_names: KeyNames) -> str:
        loc = item["loc"]
        line, place = self._find(loc)
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown key; " + nearest(str(loc[-1]), key_names(*self._beside(place)))
        elif item["type"] == "missing":
            message = f"{loc[-1]} is missing; add it"
        elif item["type"] in ("model_type", "dict_type"):
            message = "needs keys and values; write them below it, indented"
        key = ".".join(map(str, place))
        return str(self.error(line, f"{key}: {message}" if key else message))

    def _find(self, loc: Place) -> tuple[int, Place]:
        """Follow ``loc`` as far as the file goes; pydantic mixes names of validators into it."""
        place: Place = ()
        for part in loc:
            if (*place, part) in self._lines:
                place = (*place, part)
        return self._lines[place], place

    def _beside(self, place: Place) -> tuple[Place, list[str]]:
        above = place[:-1]
        return above, [str(p[-1]) for p in self._lines if p[:-1] == above and p != above]


def misplaced(message: str, *loc: str | int) -> ValidationError:
    """Return the error of a validator that sees several keys, placed at the one to change."""
    kind = PydanticCustomError("value_error", "{text}", {"text": message})
    return ValidationError.from_exception_data(
        "models.yaml", [InitErrorDetails(type=kind, loc=loc, input=None)]
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'?" or the known names, for the end of an error message."""
    names = list(known)
    close = get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(names)
