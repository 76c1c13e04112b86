"""The judge's analysis: a JSON schema that its decoder must obey, and what came of it. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from localfusion.errors import JudgeError
from localfusion.judging import Analysis
from localfusion.types import Candidate

CHARACTERS_PER_TOKEN = 3
"""Of JSON in the tokenizers of small models, cautiously; English prose has about four."""
MAX_ENTRIES = 8
"""Of each of the five lists."""
SENTENCE = 80
"""Characters that an entry should be able to have."""


def schema_for(labels: Sequence[str], max_tokens: int) -> Mapping[str, object]:
    """Return Analysis' JSON schema with drafts named by letter, bounded to fit ``max_tokens``.

    Without bounds a small judge fills its first list until its tokens are used up, and the
    object never closes. As many entries are allowed as leave each string a sentence.
    """
    for entries in range(MAX_ENTRIES, 0, -1):
        schema = _bounded(labels, entries)
        skeleton, strings = _size(schema, schema)
        length = (max_tokens * CHARACTERS_PER_TOKEN - skeleton) // strings
        if length >= SENTENCE:
            break
    for node in _nodes(schema):
        if node.get("type") == "string":
            node["maxLength"] = max(length, SENTENCE // 4)
    return schema


def _bounded(labels: Sequence[str], entries: int) -> dict[str, Any]:
    schema: dict[str, Any] = Analysis.model_json_schema()
    for node in _nodes(schema):
        if node.get("type") == "array":
            node["maxItems"] = entries
    for part in ("Stance", "UniqueInsight"):
        schema["$defs"][part]["properties"]["model"] = {"enum": list(labels)}
    stances = schema["$defs"]["Contradiction"]["properties"]["stances"]
    models = schema["$defs"]["PartialCoverage"]["properties"]["models"]
    stances["maxItems"] = models["maxItems"] = len(labels)
    models["items"] = {"enum": list(labels)}
    return schema


def parse(text: str, labels: Sequence[str]) -> Analysis:
    """Return the analysis as the judge gave it, drafts named by letter.

    Raises:
        JudgeError: empty, not JSON, not of the schema, or it names a draft that does not exist.
    """
    if not text.strip():
        raise JudgeError("the judge's analysis is empty", code="judge_empty_completion")
    try:
        analysis = Analysis.model_validate_json(text)
    except ValidationError as error:
        kind = error.errors()[0]["type"]
        code = "judge_not_valid_json" if kind == "json_invalid" else "judge_schema_mismatch"
        raise JudgeError(f"the judge's analysis is unusable: {kind}", code=code) from error
    try:
        named(analysis, {label: label for label in labels})
    except KeyError as error:
        raise JudgeError(
            f"the judge's analysis names a draft {error} that does not exist",
            code="judge_schema_mismatch",
        ) from error
    return analysis


def named(analysis: Analysis, names: Mapping[str, str]) -> Analysis:
    """Put candidates' names in place of letters, for everyone but the judge."""
    content = analysis.model_dump()
    for contradiction in content["contradictions"]:
        for stance in contradiction["stances"]:
            stance["model"] = names[stance["model"]]
    for part in content["partial_coverage"]:
        part["models"] = [names[label] for label in part["models"]]
    for part in content["unique_insights"]:
        part["model"] = names[part["model"]]
    return Analysis.model_validate(content)


def candidate_names(candidates: Sequence[Candidate]) -> list[str]:
    """Name candidates by model; repeated ones ``name``, ``name#2``, ``name#3``."""
    seen: dict[str, int] = {}
    names = []
    for candidate in candidates:
        count = seen[candidate.model] = seen.get(candidate.model, 0) + 1
        names.append(candidate.model if count == 1 else f"{candidate.model}#{count}")
    return names


def _size(node: dict[str, Any], root: dict[str, Any]) -> tuple[int, int]:
    """Return characters around the strings, and strings, of the largest value of a schema."""
    if "$ref" in node:
        return _size(root["$defs"][node["$ref"].rsplit("/", 1)[1]], root)
    if "enum" in node:
        return 4, 0  # "A",
    if node["type"] == "array":
        around, strings = _size(node["items"], root)
        return 3 + around * node["maxItems"], strings * node["maxItems"]
    if node["type"] == "object":
        parts = [_size(part, root) for part in node["properties"].values()]
        keys = sum(len(key) + 4 for key in node["properties"])
        return 3 + keys + sum(part[0] for part in parts), sum(part[1] for part in parts)
    return 3, 1


def _nodes(value: object) -> list[dict[str, object]]:
    if isinstance(value, dict):
        return [value, *(node for child in value.values() for node in _nodes(child))]
    if isinstance(value, list):
        return [node for child in value for node in _nodes(child)]
    return []
