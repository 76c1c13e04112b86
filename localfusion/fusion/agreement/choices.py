"""Letters of multiple choice, and yes or no, out of a statement of the answer. Pure.

A statement is marked where it follows ``Answer:`` or stands in a box, and may then be as short as
``B``; the last line of a text is not, and has to say more to be understood.
"""

import re
import unicodedata
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJ"

_MARKUP = re.compile(r"\\(?:text|mathrm|mathbf|textbf|boxed)\s*(?=\{)|\*\*|__|\\[()\[\]]|[`${}]")
_NAMED = r"(?:(?:the )?(?:correct |best |right )?(?:answer|option|choice|letter)(?: is)?\W{0,4})?"
_LETTER = re.compile(
    rf"\W{{0,4}}(?i:{_NAMED})(?P<letter>[A-Ja-j])"
    r"(?P<end>[)\]]|[.:,;](?=\s|$)|(?=\s*$)|(?=\s+(?:because|since|as|is|was|[-\u2013\u2014(=])))"
)
_LETTER_AND_TEXT = re.compile(r"\W{0,4}(?P<letter>[B-HJ])(?= \w)")  # A and I are words as well
_ANOTHER = re.compile(
    r"[)\].]?\s*(?:,|and|or|&|/|\+)\s*\(?[A-Ja-j](?:[)\].,;]|\s*$|\s+(?:are|is)\b)"
)
_IN_BRACKETS = re.compile(r"\(([A-J])\)|\b(?:[Oo]ption|[Cc]hoice) ([A-J])\b")
_LINE_OF_OPTION = re.compile(r"^[\W_]{0,4}([A-J])[).:](?=\s|[*_]|$)", re.MULTILINE)
_NEGATION = re.compile(r"\b(?:not|never|neither|nor|isn|cannot)\b|n['\u2019]t\b", re.IGNORECASE)

_YES = "yes true correct right valid ja oui sí sim да 是 はい 예".split()  # noqa: SIM905  a word list
_NO = "no false incorrect wrong invalid untrue nein non não нет 否 いいえ 아니요".split()  # noqa: SIM905
_OPENING = re.compile(
    rf"[\W_]*(?:it is |it['\u2019]s |that is )?(?P<word>{'|'.join((*_YES, *_NO))})"
    r"(?P<end>\s*(?:[.,;:!)\n\u2013\u2014-]|$))?(?!\w)",
    re.IGNORECASE,
)
_CLAIM = re.compile(
    r"\b(?P<negation>(?:not|never|cannot be|\w+n['\u2019]t)(?: be)?[\s(]+)?"
    r"(?P<word>true|false|correct|incorrect|valid|invalid|untrue)\b",
    re.IGNORECASE,
)


def fold(text: str) -> str:
    """Fold case, width, space, punctuation and English articles; keep what sets answers apart.

    Signs stay in and around numbers and names: ``3.5``, ``-5``, ``C++``, ``C#``.
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    text = "".join(
        " " if _is_punctuation(text, place, char) else char for place, char in enumerate(text)
    )
    words = text.split()
    return " ".join([word for word in words if word not in ("a", "an", "the")] or words)


def _is_punctuation(text: str, place: int, char: str) -> bool:
    if char in "#%@&" or not unicodedata.category(char).startswith("P"):
        return False
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    if char in ".,:/" and before.isdigit() and after.isdigit():
        return False
    return not (char == "-" and after.isdigit() and not before.isalnum())


def letter_in(statement: str, options: Sequence[str] = (), *, is_marked: bool) -> str | None:
    """Return the letter that a statement chooses, by name or by the text of one option alone."""
    statement = _MARKUP.sub("", statement).strip()
    match = _LETTER.match(statement)
    if match is None and is_marked:
        match = _LETTER_AND_TEXT.match(statement)
    if match and match["letter"].islower() and match.groupdict().get("end") not in (")", "]"):
        match = match if is_marked and match.end() == len(statement) else None
    if match is None:
        named = {first or second for first, second in _IN_BRACKETS.findall(statement)}
        if named:
            return _known(named.pop(), options) if len(named) == 1 else None
        return _by_text(statement, options)
    if _ANOTHER.match(statement, match.end("letter")):
        return None
    letter = match["letter"].upper()
    told = _by_text(statement[match.end() :], options)
    return None if told not in (None, letter) else _known(letter, options)


def first_letter(text: str, options: Sequence[str] = ()) -> str | None:
    """Return the letter that a text begins with, where it does not list the options again."""
    first = text.split("\n", 1)[0]
    if not _LINE_OF_OPTION.match(first) or lists_options(text):
        return None
    return letter_in(first, options, is_marked=False)


def lists_options(text: str) -> bool:
    """Tell whether lines begin with different letters: then none of them chooses."""
    return len(set(_LINE_OF_OPTION.findall(text))) > 1


def ends_in_list(text: str) -> bool:
    """Tell whether the last line is one of a list of options."""
    return bool(_LINE_OF_OPTION.match(text.rpartition("\n")[2])) and lists_options(text)


def _known(letter: str, options: Sequence[str]) -> str | None:
    return letter if not options or LETTERS.index(letter) < len(options) else None


def _by_text(statement: str, options: Sequence[str]) -> str | None:
    said = fold(statement)
    folded = [fold(option) for option in options]
    if said in folded:
        return LETTERS[folded.index(said)] if folded.count(said) == 1 else None
    if _NEGATION.search(statement):
        return None
    found = [
        place for place, option in enumerate(folded) if option and f" {option} " in f" {said} "
    ]
    # One that is part of another, "the red book" and "book", was not said itself.
    found = [
        place
        for place in found
        if not any(folded[place] in folded[other] for other in found if other != place)
    ]
    return LETTERS[found[0]] if len(found) == 1 else None


def truth_in(statement: str, *, is_marked: bool) -> bool | None:
    """Return whether a statement says yes or no; None where it says both or neither."""
    statement = _MARKUP.sub("", statement).strip()
    opening = _OPENING.match(statement)
    if opening and (opening["end"] is not None or is_marked):
        if re.match(r"\W*(?:and|or)\W+\w+", statement[opening.end("word") :], re.IGNORECASE):
            return None
        return opening["word"].casefold() in _YES
    claims = _claims(statement)
    if len(claims) > 1:
        # "True and not True is False": only the last clause is the claim.
        claims = _claims(re.split(r"\bis\b|=|→|:", statement)[-1])
    return claims.pop() if len(claims) == 1 else None


def _claims(statement: str) -> set[bool]:
    return {
        (match["word"].casefold() in _YES) != bool(match["negation"])
        for match in _CLAIM.finditer(statement)
    }
