"""The judge's prompt: a conversation whose last user turn is extended, and only ever at its end.

Conversation, rules, drafts, tail: analysis and synthesis differ in the tail alone, so the second
call finds the first one's prefix in the engine's cache.
"""

import re
from collections.abc import Sequence
from functools import cache

from jinja2 import PackageLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from localfusion.types import Candidate, Message

LABELS = "ABCDEFGH"

# What a chat template or a reader could take for structure. A draft that contains one is defused,
# not refused: the text stays readable and means the same.
_CONTROL = re.compile(
    r"<(?=\||/?(?:think|tool_call|s|bos|eos|start_of_turn|end_of_turn|im_start|im_end)\b)"
    r"|\[(?=/?INST\]|/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS)\]|[0-9a-f]{8} )",
    re.IGNORECASE,
)


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(
        loader=PackageLoader("localfusion.fusion", "prompts"),
        undefined=StrictUndefined,
        autoescape=False,  # prompts are text, not pages
        keep_trailing_newline=True,
    )


def render(template: str, **values: object) -> str:
    return _environment().get_template(f"{template}.jinja").render(values)


def mark(nonce: str) -> str:
    """Return how every mark around a draft begins, as the template writes it; nothing else does."""
    return f"[{nonce}"


def neutralize(text: str, nonce: str) -> str:
    """Return model output that can neither close its draft nor speak as a chat template does.

    A space is put behind each opening bracket of a control token, role tag or draft mark, and the
    nonce is removed.
    """
    while nonce in text:  # removing it once can join the halves of another
        text = text.replace(nonce, "")
    return _CONTROL.sub(lambda match: match[0] + " ", text).strip()


def extend(conversation: Sequence[Message], block: str) -> tuple[Message, ...]:
    """Append ``block`` to the last user turn, or as a new one behind another role.

    Two user turns in a row are refused by some chat templates, so the judge's part joins the last.
    """
    *before, last = conversation
    if last.role != "user":
        return (*conversation, Message("user", block.lstrip()))
    return (*before, Message("user", last.content + block))


def judge_block(candidates: Sequence[Candidate], nonce: str) -> str:
    """Render rules and drafts: all that precedes the tail."""
    drafts = (
        render(
            "draft",
            label=LABELS[place],
            nonce=nonce,
            unfinished=candidate.finish_reason != "stop",
            text=neutralize(candidate.text, nonce),
        )
        for place, candidate in enumerate(candidates)
    )
    return render("judge", count=len(candidates), nonce=nonce) + "".join(drafts)
