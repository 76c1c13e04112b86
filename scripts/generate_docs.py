"""Write docs/models-yaml.md and the tables of docs/http.md, conformance.md and metrics.md.

``--check`` only compares.
"""

import re
import sys
import tomllib
from pathlib import Path

from pydantic import BaseModel

from localfusion.config import (
    AuditSettings,
    CatalogueFacts,
    DefaultPreset,
    Extract,
    GgufSource,
    HubSource,
    Limits,
    Member,
    ModelSpec,
    PathSource,
    PolicySettings,
    Preset,
    Rates,
    Section,
    ServerSettings,
    Settings,
    TelemetrySettings,
    TraceSettings,
    WheelsSource,
)
from localfusion.server.completions import CompletionsBody
from localfusion.server.fields import ChatBody
from localfusion.server.forms import FusionOptions, MemberOptions
from localfusion.server.messages_fields import MessagesBody
from localfusion.server.replay import ExplainBody, ReplayBody
from localfusion.server.responses_fields import ResponsesBody
from localfusion.server.turns import ChatMessage
from localfusion.telemetry.engines import SERIES
from localfusion.telemetry.metrics import Metrics
from localfusion.telemetry.traces import TRACE_SERIES

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "models-yaml.md"
HTTP_PAGE = DOCS / "http.md"
CONFORMANCE_PAGE = DOCS / "conformance.md"
METRICS_PAGE = DOCS / "metrics.md"
EXPECTED = Path(__file__).parent / "conformances" / "expected.toml"
BODIES: dict[str, type[BaseModel]] = {
    kind.__name__: kind
    for kind in (
        ChatBody,
        ChatMessage,
        FusionOptions,
        MemberOptions,
        ResponsesBody,
        MessagesBody,
        CompletionsBody,
        ReplayBody,
        ExplainBody,
    )
}
_MARKED = re.compile(r"<!-- table: (\w+) -->\n.*?<!-- end -->", re.DOTALL)
SECTIONS: dict[str, type[Section]] = {
    "top level": Settings,
    "default_preset": DefaultPreset,
    "server": ServerSettings,
    "limits": Limits,
    "traces": TraceSettings,
    "telemetry": TelemetrySettings,
    "audit": AuditSettings,
    "policy": PolicySettings,
    "rates": Rates,
    "models.NAME": ModelSpec,
    "models.NAME.source, a folder": PathSource,
    "models.NAME.source, the hub": HubSource,
    "models.NAME.source, a GGUF file": GgufSource,
    "models.NAME.source, wheels": WheelsSource,
    "models.NAME.facts": CatalogueFacts,
    "presets.NAME": Preset,
    "presets.NAME.panel": Member,
    "presets.NAME.extract": Extract,
}
INTRO = """\
# models.yaml, every key

Generated from `localfusion/config/` by `scripts/generate_docs.py`; a test holds it current. The
shipped `models.yaml` shows the keys in use. An unknown key is an error. Durations are seconds, or
text: `90s`, `500ms`, `5m`. Relative paths start at the folder of models.yaml.
"""
_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "at least {} characters",
    "minItems": "at least {}",
    "minProperties": "at least {}",
    "pattern": "`{}`",
}


def render() -> str:
    """Return the whole page."""
    return "\n".join([INTRO, *(_table(title, section) for title, section in SECTIONS.items())])


def render_http(page: str) -> str:
    """Return the page with its tables anew."""

    def fill(marked: re.Match[str]) -> str:
        rows = "\n".join(_rows(BODIES[marked[1]]))
        return f"<!-- table: {marked[1]} -->\n{rows}\n<!-- end -->"

    return _MARKED.sub(fill, page)


def render_conformance(page: str) -> str:
    """Return the page with the table of expected failures anew."""
    rows = [
        f"| {suite} | `{case}` | {reason} |"
        for suite, cases in tomllib.loads(EXPECTED.read_text(encoding="utf-8")).items()
        for case, reason in cases.items()
    ]
    head = ["| suite | cases | why they fail |", "|---|---|---|"]
    table = "\n".join([*head, *rows])
    return _MARKED.sub(lambda _: f"<!-- table: expected -->\n{table}\n<!-- end -->", page)


def render_metrics(page: str) -> str:
    """Return the page with the table of series anew."""
    rows = [
        f"| `{s.name}` | {s.kind} | {', '.join(s.labels) or 'none'} | {s.meaning} |"
        for s in (*Metrics().series, *SERIES, *TRACE_SERIES)
    ]
    table = "\n".join(["| series | kind | labels | meaning |", "|---|---|---|---|", *rows])
    return _MARKED.sub(lambda _: f"<!-- table: series -->\n{table}\n<!-- end -->", page)


def _table(title: str, section: type[Section]) -> str:
    return "\n".join([f"## {title}", "", *_rows(section), ""])


def _rows(section: type[BaseModel]) -> list[str]:
    schema = section.model_json_schema()
    required = schema.get("required", [])
    rows = [
        f"| `{key}` | {_values(field)} | {_default(key, field, required)} | {_meaning(field)} |"
        for key, field in schema["properties"].items()
    ]
    return ["| key | value | default | meaning |", "|---|---|---|---|", *rows]


def _values(field: dict[str, object]) -> str:
    options = field.get("anyOf")
    if isinstance(options, list):
        texts = (_values(option) for option in options if option.get("type") != "null")
        return " or ".join(dict.fromkeys(texts))
    if "$ref" in field:
        return "keys of its own, below"
    if "const" in field:
        return f"`{field['const']}`"
    choices = field.get("enum")
    if isinstance(choices, list):
        return ", ".join(f"`{choice}`" for choice in choices)
    limits = [form.format(field[key]) for key, form in _LIMITS.items() if key in field]
    return "; ".join([_type(field), *limits]).replace("|", "\\|")


def _type(field: dict[str, object]) -> str:
    words = {"array": "list", "object": "mapping", "string": "text", "boolean": "true or false"}
    kind = str(field.get("type", "value"))
    return words.get(kind, kind)


def _default(key: str, field: dict[str, object], required: list[str]) -> str:
    if key in required:
        return "must be given"
    default = field.get("default")
    if default is None or default in ({}, ""):
        return "none"
    return "as below" if isinstance(default, dict) else f"`{default}`"


def _meaning(field: dict[str, object]) -> str:
    text = " ".join(str(field.get("description", "")).split())
    return text.replace("``", "`").replace("|", "\\|").replace("None", "none")


def main() -> int:
    pages = {
        PAGE: render(),
        HTTP_PAGE: render_http(HTTP_PAGE.read_text(encoding="utf-8")),
        CONFORMANCE_PAGE: render_conformance(CONFORMANCE_PAGE.read_text(encoding="utf-8")),
        METRICS_PAGE: render_metrics(METRICS_PAGE.read_text(encoding="utf-8")),
    }
    for page, text in pages.items():
        if "--check" not in sys.argv[1:]:
            page.write_text(text, encoding="utf-8")
        elif not page.is_file() or page.read_text(encoding="utf-8") != text:
            print(f"{page} is not current: run scripts/generate_docs.py", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
