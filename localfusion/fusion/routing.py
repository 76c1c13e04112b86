"""What kind of task a request is, by rules alone: no model is asked. Pure.

``closed`` has one answer that votes can be counted on, ``code`` one that can be run, everything
else is ``open``; so is all that the rules are unsure of, since a vote on an open question loses
what a synthesis would have made of the drafts.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from localfusion.fusion.agreement.extract import EXPLANATIONS, Extractor
from localfusion.fusion.prompts import last_question
from localfusion.fusion.questions import (
    form_of,
    is_numeric,
    is_truth_question,
    is_yes_no_question,
    options_of,
)
from localfusion.types import Message

Task = Literal["closed", "code", "open"]


@dataclass(frozen=True, slots=True)
class Rules:
    """Thresholds of the rules; lengths in characters of the last user turn.

    Attributes:
        min_options: Options from which on lettered lines are a choice; 0 turns the rule off.
        max_option: Longest option; longer lettered lines are paragraphs of a text.
        max_choice: Longest question with options.
        max_final_answer: Longest question that says how its final answer is to be given.
        max_numeric: Longest question for a number.
        max_boolean: Longest question that asks for yes or no by its grammar alone.
        max_code: Longest request for code.
        max_follow_up: Longest "now make it faster" after code in the conversation.
    """

    min_options: int = 2
    max_option: int = 300
    max_choice: int = 6000
    max_final_answer: int = 6000
    max_numeric: int = 1500
    max_boolean: int = 120
    max_code: int = 20_000
    max_follow_up: int = 300


DEFAULT_RULES = Rules()
_MAX_DEPTH = 16


@dataclass(frozen=True, slots=True)
class Routing:
    """The kind of a request.

    Attributes:
        extractor: How to find its answers, for ``closed`` and ``code``.
        tests_present: The request holds tests that a candidate's code can be run against.
        reason: Names of the rules that decided, joined by ``+``.
    """

    task: Task
    extractor: Extractor | None
    tests_present: bool
    reason: str


def route(
    messages: Sequence[Message],
    *,
    extract: Extractor | None = None,
    response_schema: Mapping[str, object] | None = None,
    rules: Rules = DEFAULT_RULES,
) -> Routing:
    """Tell a request's kind by its last user turn.

    Args:
        messages: The conversation.
        extract: As the request or its preset names it; that settles it.
        response_schema: JSON schema that the answer must obey.
        rules: Their thresholds.
    """
    asked = last_question(messages).strip()
    has_tests = bool(_TESTS.search(asked))
    if extract is not None:
        task: Task = "code" if extract.kind == "code" else "closed"
        return Routing(task, extract, has_tests, "extractor_given")
    if response_schema is not None:
        if _is_closed(response_schema):
            return Routing("closed", Extractor("json"), has_tests, "response_schema")
        return Routing("open", None, has_tests, "response_schema_of_free_text")
    if choice := _choice(asked, rules):
        return Routing("closed", choice, has_tests, "choice_list")
    if reason := _code_reason(messages, asked, rules):
        reason += "+tests" if has_tests else ""
        return Routing("code", Extractor("code"), has_tests, reason)
    if closed := _closed(asked, rules):
        return Routing("closed", closed[0], has_tests, closed[1])
    return Routing("open", None, has_tests, "unsure")


def detect(messages: Sequence[Message], rules: Rules = DEFAULT_RULES) -> Extractor | None:
    """Return how to find the answers of a question, where the rules know; else None."""
    return route(messages, rules=rules).extractor


def _choice(asked: str, rules: Rules) -> Extractor | None:
    if len(asked) > rules.max_choice:
        return None
    options = options_of(asked, at_least=rules.min_options, longest=rules.max_option)
    return Extractor("choice", options=options) if options else None


def _closed(asked: str, rules: Rules) -> tuple[Extractor, str] | None:
    if len(asked) <= rules.max_final_answer:
        if kind := form_of(asked):
            return Extractor(kind), f"final_answer+{kind}"
        if is_truth_question(asked):
            return Extractor("boolean"), "true_or_false"
    if len(asked) <= rules.max_boolean and is_yes_no_question(asked):
        return Extractor("boolean"), "yes_no_question"
    if len(asked) <= rules.max_numeric and is_numeric(asked):
        return Extractor("number"), "numeric_question"
    return None


_FENCE = re.compile(
    r"^[ \t]*```(?P<language>[^\n]*)\n(?P<code>.*?)(?:```|\Z)", re.DOTALL | re.MULTILINE
)
_NO_CODE = (
    "text",
    "txt",
    "json",
    "yaml",
    "csv",
    "markdown",
    "md",
    "log",
    "math",
    "latex",
    "output",
)
_SIGNATURE = re.compile(
    r"\b(?:async )?def \w+\(|\bfunction \w+\(|\bfn \w+[(<]|\bfunc \w+\(|^#include\b"
    r"|^[ \t]*(?:public|private|protected|static) (?:[\w<>\[\]]+ ){1,5}\w+\("
    r"|^[ \t]*class \w+(?:\([^\n]*\))?[ \t]*[:{][ \t]*$"
    r"|^[ \t]*(?:const|let|var) \w+ = |^[ \t]*from [\w.]+ import |^[ \t]*import [\w.]+;?[ \t]*$"
    r"|^[ \t]*for \w+(?:, \w+)? in [^\n]+:[ \t]*$"
    r"|\bSELECT\b[^\n]{1,300}?\bFROM\b|^[ \t]*CREATE TABLE\b",
    re.MULTILINE,
)
_TESTS = re.compile(
    r"^[ \t]*assert\b[ (]|^[ \t]*>>> |\bdef test_\w+\(|\bself\.assert\w+\(|\bunittest\b|\bpytest\b",
    re.MULTILINE,
)
_MAKE = (
    r"\b(?:write|implement|create|develop|code|build|complete|fix|debug|refactor|optimi[sz]e|modify"
    r"|design|generate|finish|port|convert|make|improve)\b[^.?!\n]{0,80}?"
)
_LANGUAGE = (
    r"(?:python|javascript|typescript|java|c\+\+|c#|golang|rust|ruby|php|kotlin|swift|haskell|lua"
    r"|bash|sql|html|css|react)(?!\w)"
)
_ASKS_FOR_CODE = re.compile(
    _MAKE + rf"\b(?:functions?|regex|regular expression|unit tests?|subroutine|{_LANGUAGE})",
    re.IGNORECASE,
)
_ASKS_FOR_PROGRAM = re.compile(
    _MAKE
    + r"\b(?:program|script|class|method|algorithm|query|codes?|module|api|endpoint|parser)\b",
    re.IGNORECASE,
)
_PROGRAMMING = re.compile(
    rf"\b(?:{_LANGUAGE}|programming|arrays?|strings?|integers?|linked list|hash ?map|recursi\w+"
    r"|complexity|stdin|input|outputs?|returns?|prints?|sort(?:s|ing)?"
    r"|given (?:date|list|number))\b",
    re.IGNORECASE,
)
_ASKS_ABOUT_CODE = re.compile(
    r"\b(?:explain|describe|summari[sz]e|what (?:does|is|are|do)|why|how does|purpose|meaning)\b",
    re.IGNORECASE,
)
_CHANGE = re.compile(
    r"\b(?:fix|debug|refactor|optimi[sz]e|paralleli[sz]e|rewrite|implement|simplify|port"
    r"|vectori[sz]e|bug|complete|finish|improve|modify|extend|convert|write"
    r"|make it (?:faster|shorter|async\w*|generic))\b",
    re.IGNORECASE,
)


def _code_reason(messages: Sequence[Message], asked: str, rules: Rules) -> str | None:
    if len(asked) > rules.max_code:
        return None
    start = _code_start(asked)
    if start is not None:
        # Only what is asked about the code tells; its comments ask all sorts of things.
        around = asked[:start] + _after_code(asked)
        asks_about = _ASKS_ABOUT_CODE.search(around) and not _CHANGE.search(around)
        return None if asks_about else "code_in_request"
    if _ASKS_FOR_CODE.search(asked):
        return "asks_for_code"
    if _ASKS_FOR_PROGRAM.search(asked) and _PROGRAMMING.search(asked):
        return "asks_for_program"
    if len(asked) <= rules.max_follow_up and (
        _CHANGE.search(asked) or _ASKS_FOR_PROGRAM.search(asked)
    ):
        before = [message.content for message in messages[:-1] if message.role != "system"]
        if any(_code_start(text) is not None for text in before):
            return "change_of_code"
    return None


def _code_start(text: str) -> int | None:
    for fence in _FENCE.finditer(text):
        language = fence["language"].strip().lower()
        if language not in _NO_CODE and (language or _SIGNATURE.search(fence["code"])):
            return fence.start()
    signature = _SIGNATURE.search(_FENCE.sub(lambda fence: " " * len(fence[0]), text))
    return signature.start() if signature else None


def _after_code(text: str) -> str:
    fences = list(_FENCE.finditer(text))
    if fences:
        return text[fences[-1].end() :]
    last = text.rpartition("\n")[2]
    return "" if last.startswith((" ", "\t")) or _SIGNATURE.search(last) else "\n" + last


def _is_closed(
    schema: Mapping[str, object], root: Mapping[str, object] | None = None, depth: int = 0
) -> bool:
    """Tell whether all that a schema lets vary is enumerated, a number or a truth value.

    Fields about the answer, such as ``reasoning``, do not count.
    """
    root = root if root is not None else schema
    if depth > _MAX_DEPTH:
        return False
    if isinstance(reference := schema.get("$ref"), str):
        target = _resolve(reference, root)
        return target is not None and _is_closed(target, root, depth + 1)
    if "enum" in schema or "const" in schema:
        return True
    if isinstance(branches := schema.get("anyOf") or schema.get("oneOf"), list):
        return all(isinstance(b, Mapping) and _is_closed(b, root, depth + 1) for b in branches)
    match schema.get("type"):
        case "number" | "integer" | "boolean" | "null":
            return True
        case "array":
            items = schema.get("items")
            return isinstance(items, Mapping) and _is_closed(items, root, depth + 1)
        case "object":
            fields = schema.get("properties")
            compared = [
                field
                for name, field in (fields.items() if isinstance(fields, Mapping) else ())
                if depth or name.lower() not in EXPLANATIONS
            ]
            return bool(compared) and all(
                isinstance(field, Mapping) and _is_closed(field, root, depth + 1)
                for field in compared
            )
    return False


def _resolve(reference: str, root: Mapping[str, object]) -> Mapping[str, object] | None:
    node: object = root
    for name in reference.removeprefix("#").strip("/").split("/"):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) else None
