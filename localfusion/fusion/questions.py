"""What a question asks for, by its words: one of its options, a number, yes or no. Pure.

The rules are narrow on purpose: what they do not know is an open question. English first; figures,
lists of options and the commonest words for "how many" work in other languages too.
"""

import re
from typing import Literal

from localfusion.fusion.agreement.choices import LETTERS

ClosedKind = Literal["number", "choice", "boolean", "text"]

MIN_INLINE_OPTIONS = 3
"""(A) and (B) within a sentence are as often two cases to discuss."""

_LETTERED_LINE = re.compile(
    r"^[ \t]*(?:[-*][ \t]+)?(?:\*\*)?\(?(?P<letter>[A-Za-z])[).:](?:\*\*)?[ \t]+"
    r"(?P<text>\S[^\n]*)$",
    re.MULTILINE,
)
_LETTERED_INLINE = re.compile(r"\((?P<letter>[A-J])\)[ \t]+(?P<text>[^()\n]{1,300})")
_ASKS_TO_CHOOSE = re.compile(
    r"\b(?:which|choose|select|pick|options?|answer|choices?|correct|best)\b|\?|__",
    re.IGNORECASE,
)
_ASKS_WHICH = re.compile(r"\b(?:which|choose|select|pick|options?|choices?)\b", re.IGNORECASE)
_ORDERS_TEXT = re.compile(
    r"(?:^|[.!?:\n]\s*|\b(?:please|can you|could you|to)\s+)"
    r"(?:write|generate|compose|draft|rewrite|rephrase|paraphrase|summari[sz]e|translate|analy[sz]e"
    r"|discuss|compare|evaluate|design|suggest|recommend|pretend|act as|describe|list|name|make"
    r"|create|brainstorm|propose|classify|extract|identify|edit|correct|give me|tell me|you are)\b",
    re.IGNORECASE,
)
_SEVERAL = re.compile(
    r"\?.*\?|\band (?:why|how|which|what|who|where|explain|list)\b", re.DOTALL | re.I
)
_HOW_MANY = re.compile(
    r"\bhow many\b|\bwie ?viele?\b|\bcu[aá]nt[oa]s?\b|\bcombien\b|\bquant[oie]s?\b"
    r"|сколько|多少|几个|いくつ",
    re.IGNORECASE,
)
_HOW_MUCH = re.compile(
    r"\bhow (?:much|far|long|old|tall|fast|heavy|often)\b"
    r"|\bwhat (?:do|does|did|will|would) [^?]{1,80}? (?:cost|weigh|measure|earn|pay)\b",
    re.IGNORECASE,
)
_QUANTITY = (
    r"(?:sum|product|difference|quotient|total|area|volume|perimeter|circumference|remainder|average"
    r"|mean|median|probability|percentage|value|cost|price|number|distance|speed|age|square root"
    r"|gcd|lcm|greatest common divisor|least common multiple|integer|result|length"
    r"|height|width|radius|ratio)"
)
_ASKS_QUANTITY = re.compile(
    rf"\b(?:what(?:'s|\u2019s| is| was| are| will be| would be)|find|determine|calculate|compute)\b"
    rf"(?: \w+)?(?: the)?(?: [\w-]+){{0,3}}? {_QUANTITY}\b",
    re.IGNORECASE,
)
_OPERATOR = r"(?:[-+*/^%x\u00d7\u00f7]|plus|minus|times|divided by)"
_ARITHMETIC = re.compile(
    r"^\W*(?:(?:what(?:'s|\u2019s| is)|calculate|compute|evaluate|solve|how much is)\W+)?"
    rf"[-+(\s]*\d[\d\s.,()]*(?:{_OPERATOR}[-+(\s]*\d[\d\s.,()]*)+[=?.!\s]*$",
    re.IGNORECASE,
)
_CALCULATE = re.compile(r"\b(?:calculate|compute|solve for)\b", re.IGNORECASE)
_NOT_A_NUMBER = re.compile(
    r"\b(?:derivative|integral|antiderivative|matrix|matrices|eigen\w*|gradient|expression|formula"
    r"|express|simplify|factor|prove|proof|equation of|in terms of|estimate|approximately how"
    r"|each of the|for each|typical(?:ly)?|usually|roughly|margins|ratios|results|steps? to"
    r"|coordinates|vector|range of)\b",
    re.IGNORECASE,
)
_TRUTH_VALUES = re.compile(
    r"\b(?:yes[ /]*(?:or|/)[ /]*no|true[ /]*(?:or|/)[ /]*false|ja oder nein|oui ou non|s[ií] o no)"
    r"\b(?!,? or\b)",
    re.IGNORECASE,
)
_EXPRESSION = re.compile(
    r"^(?:(?:not|and|or|xor|true|false)\b|[()\s])+(?:is|=)?\W*$", re.IGNORECASE
)
_YES_NO_QUESTION = re.compile(
    r"^(?:is|are|was|were|does|do|did|has|have)\b[^.?!\n]*\?$", re.IGNORECASE
)
_FORMAL = re.compile(
    r"\d(?!\d*(?:st|nd|rd|th)\b)|\b(?:prime|divisible|palindrome|anagram|synonyms?|antonyms?"
    r"|capital of|tautology|valid|even number|odd number)\b",
    re.IGNORECASE,
)
_OPINION = re.compile(
    r"\b(?:you|your|i|we|my|me|us|our|it|there|any|possible|good|better|best|bad|worth|okay|ok|should"
    r"|or|could|can|safe|ethical|moral|right|wrong|fair|like|think|need|why|how|people|god)\b",
    re.IGNORECASE,
)
_FORM = re.compile(
    r"\bfinal answer\b|\\boxed|\b(?:answer|respond|reply|output|give|return|provide)\b[^.\n]{0,30}"
    r"\b(?:only|just|a single|one)\b|\b(?:only|just) (?:answer|respond|reply|output|give|return)\b",
    re.IGNORECASE,
)
_FORMS: tuple[tuple[Literal["number", "choice", "boolean", "text"], re.Pattern[str]], ...] = (
    ("boolean", _TRUTH_VALUES),
    ("choice", re.compile(r"\bletter\b", re.IGNORECASE)),
    ("number", re.compile(r"\b(?:number|integer|numeric\w*|digits?|numerals?)\b", re.IGNORECASE)),
    (
        "text",
        re.compile(r"\b(?:one|a single|the) (?:word|name|date|year|city|country)\b", re.IGNORECASE),
    ),
)


def options_of(asked: str, *, at_least: int, longest: int) -> tuple[str, ...]:
    """Return the texts of the options (A), (B) … that a question lists, or nothing.

    Args:
        asked: The question.
        at_least: How many options make a choice; 0: no number does.
        longest: Characters of an option; longer lettered lines are paragraphs.
    """
    if not at_least:
        return ()
    for pattern, fewest in (
        (_LETTERED_LINE, at_least),
        (_LETTERED_INLINE, max(at_least, MIN_INLINE_OPTIONS)),
    ):
        found = list(pattern.finditer(asked))
        letters = "".join(match["letter"] for match in found)
        texts = tuple(match["text"].strip(" *\t,;") for match in found)
        if len(found) < fewest or letters.upper() != LETTERS[: len(found)]:
            continue
        before, after = asked[: found[0].start()], asked[found[-1].end() :]
        # Lowercase letters number lists of any kind; only a question before them makes a choice.
        question = before if letters.islower() else f"{before}\n{after}"
        asks = _ASKS_WHICH if letters.islower() else _ASKS_TO_CHOOSE
        is_choice = asks.search(question) and not _ORDERS_TEXT.search(question)
        if is_choice and max(map(len, texts)) <= longest:
            return texts
    return ()


def form_of(asked: str) -> ClosedKind | None:
    """Return what form a question prescribes for its answer ("respond with only the number")."""
    form = _FORM.search(asked)
    if form is None:
        return None
    sentence = re.split(r"(?<=[.!?])\s|\n", asked[form.start() :], maxsplit=1)[0]
    for kind, pattern in _FORMS:
        if pattern.search(sentence):
            return kind
    if "final answer" not in form[0].lower() and "boxed" not in form[0]:
        return None
    if is_truth_question(asked):
        return "boolean"
    return "number" if re.search(r"\d", asked) else "text"


def is_truth_question(asked: str) -> bool:
    """Tell whether a question says that it wants yes or no, or is a logical expression."""
    if _EXPRESSION.match(asked) and len(asked.split()) > 1:
        return True
    return bool(_TRUTH_VALUES.search(asked)) and not _ORDERS_TEXT.search(asked)


def is_yes_no_question(asked: str) -> bool:
    """Tell whether one sentence asks for a fact with yes or no: "Is 17 a prime number?"."""
    if not _YES_NO_QUESTION.match(asked) or _OPINION.search(asked):
        return False
    return bool(_FORMAL.search(asked))


def is_numeric(asked: str) -> bool:
    """Tell whether a question asks for one number."""
    if _ARITHMETIC.match(asked):
        return True
    if _SEVERAL.search(asked) or _NOT_A_NUMBER.search(asked) or _ORDERS_TEXT.search(asked):
        return False
    if _HOW_MANY.search(asked):
        return True
    # Without a figure in it, "what is the value of friendship" is no sum.
    asks = _HOW_MUCH.search(asked) or _ASKS_QUANTITY.search(asked) or _CALCULATE.search(asked)
    return bool(asks) and bool(re.search(r"\d", asked))
