"""Prompts: the judge's, which only ever grows at its end, and what members are asked besides.

The judge's prompt is a conversation whose last user turn goes on: rules, drafts, tail. Verdict,
analysis and synthesis differ in the tail alone, and the prompt with k drafts is a text prefix of
the one with k+1, so that what one call has read the next one finds in the engine's cache.

Every seam lies between the last letter of the nonce and the bracket that closes its mark: the
tokenizers of current models put no token across it (tests/real/test_policies.py).
"""

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from jinja2 import PackageLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from localfusion.config import Perturbation
from localfusion.types import Message

LABELS = "ABCDEFGH"
SYNTHESIZE = "S"
"""The verdict that no draft is good enough alone."""
TRACE_CHARACTERS = 4000
"""Of its own thoughts that a member is shown when it is asked again for an answer."""

PERTURBATIONS: dict[Perturbation, str] = {
    "reworded": "Before answering, put the task into your own words for yourself.",
    "second_method": "Check the answer by a second, different method before you give it.",
    "assumptions": "First list what you assume and what is given, then answer.",
    "backwards": "Work backwards from what is asked to what is given, then answer.",
}
"""Sentences at the very end of the question, so that all samples share what precedes them."""

_CONSONANTS = "bcdfghjkmnpqrstvwxz"

# What a chat template or a reader could take for structure. A draft that contains one is defused,
# not refused: the text stays readable and means the same.
_CONTROL = re.compile(
    r"<(?=\||/?(?:think|analysis|tool_call|s|bos|eos|start_of_turn|end_of_turn|im_start|im_end)\b)"
    r"|\[(?=/?INST\]|/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS)\]"
    rf"|[{_CONSONANTS}]{{6}}[\] ])",
    re.IGNORECASE,
)


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(
        loader=PackageLoader("localfusion.fusion", "prompts"),
        undefined=StrictUndefined,
        autoescape=False,  # prompts are text, not pages
        keep_trailing_newline=True,
        auto_reload=False,  # no look at the files for every prompt
    )


def render(template: str, **values: object) -> str:
    return _environment().get_template(f"{template}.jinja").render(values)


@cache
def digest() -> str:
    """Return the SHA-256 of all templates and sentences: with another one prompts are others."""
    folder = files("localfusion.fusion") / "prompts"
    parts = [f.read_text("utf-8") for f in sorted(folder.iterdir(), key=lambda f: f.name)]
    return hashlib.sha256("\0".join([*parts, *PERTURBATIONS.values()]).encode()).hexdigest()


def nonce_of(seed: int) -> str:
    """Return the code in the marks: six consonants, no word, and few tokens; 26 bits."""
    letters = []
    for _ in range(6):
        seed, place = divmod(seed, len(_CONSONANTS))
        letters.append(_CONSONANTS[place])
    return "".join(letters)


def mark(nonce: str) -> str:
    """Return how every mark of the judge's prompt begins; nothing else in it does."""
    return f"[{nonce}"


def neutralize(text: str, nonce: str) -> str:
    """Return model output that can neither close its draft nor speak as a chat template does.

    A space is put behind each opening bracket of a control token, role tag or draft mark, and the
    nonce is removed.
    """
    while nonce in text:  # removing it once can join the halves of another
        text = text.replace(nonce, "")
    return defuse(text)


def defuse(text: str) -> str:
    """Put a space behind what could open a control token, a role tag or a mark."""
    return _CONTROL.sub(lambda match: match[0] + " ", text).strip()


def last_question(conversation: Sequence[Message]) -> str:
    """Return the last user turn, empty where there is none."""
    return next((m.content for m in reversed(conversation) if m.role == "user"), "")


def extend(conversation: Sequence[Message], block: str) -> tuple[Message, ...]:
    """Append ``block`` to the last user turn, or as a new one behind another role.

    Two user turns in a row are refused by some chat templates, so the judge's part joins the last.
    """
    *before, last = conversation
    if last.role != "user":
        return (*conversation, Message("user", block.lstrip()))
    return (*before, Message("user", last.content + block))


def perturb(conversation: Sequence[Message], how: Perturbation | None) -> tuple[Message, ...]:
    """Ask the same in another way; None: exactly the same."""
    if how is None:
        return tuple(conversation)
    return extend(conversation, f"\n\n{PERTURBATIONS[how]}")


def rescue(conversation: Sequence[Message], reasoning: str) -> tuple[Message, ...]:
    """Ask a member again that has thought and not answered."""
    return extend(conversation, render("rescue", thoughts=defuse(reasoning[-TRACE_CHARACTERS:])))
