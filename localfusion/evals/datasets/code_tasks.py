"""Small Python functions to write, with tests that the asked models do not see. Ours.

Each task has a solution, which shows that it can be solved; a test runs them.
"""

from dataclasses import dataclass

from localfusion.evals.samples import Dataset, Sample
from localfusion.types import Message

_ASK = "Write a Python function `{head}`. {what} Reply with the function in one code block."


@dataclass(frozen=True, slots=True)
class Task:
    """One function.

    Attributes:
        head: Name and parameters.
        what: It is to do, in words.
        cases: Must hold.
        solution: Does it.
    """

    head: str
    what: str
    cases: tuple[str, ...]
    solution: str

    @property
    def name(self) -> str:
        return self.head.partition("(")[0]


def _task(head: str, what: str, cases: str, body: str) -> Task:
    checks = tuple(f"assert {case.strip()}" for case in cases.split(";"))
    return Task(head, what, checks, f"def {head}:\n    {body}\n")


TASKS = (
    _task(
        "count_vowels(text)",
        "It returns how many of the letters a, e, i, o, u a text has, in either case.",
        "count_vowels('') == 0; count_vowels('Queue') == 4; count_vowels('rhythm') == 0",
        "return sum(char in 'aeiou' for char in text.lower())",
    ),
    _task(
        "second_largest(numbers)",
        "It returns the second largest of the different numbers of a list, or None.",
        "second_largest([1, 5, 5, 3]) == 3; second_largest([2, 2]) is None; "
        "second_largest([-1, -7]) == -7",
        "found = sorted(set(numbers)); return found[-2] if len(found) > 1 else None",
    ),
    _task(
        "is_leap_year(year)",
        "It tells whether a year of the Gregorian calendar is a leap year.",
        "is_leap_year(2000); not is_leap_year(1900); is_leap_year(2024); not is_leap_year(2023)",
        "return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)",
    ),
    _task(
        "run_length(text)",
        "It returns the runs of equal characters of a text as a list of (character, length).",
        "run_length('aab') == [('a', 2), ('b', 1)]; run_length('') == []; "
        "run_length('aba') == [('a', 1), ('b', 1), ('a', 1)]",
        "import itertools; return [(c, len(list(g))) for c, g in itertools.groupby(text)]",
    ),
    _task(
        "merge_sorted(a, b)",
        "It merges two sorted lists into one sorted list.",
        "merge_sorted([1, 4], [2, 3]) == [1, 2, 3, 4]; merge_sorted([], [1]) == [1]; "
        "merge_sorted([1, 1], [1]) == [1, 1, 1]",
        "return sorted([*a, *b])",
    ),
    _task(
        "digit_sum(n)",
        "It returns the sum of the decimal digits of a whole number, whatever its sign.",
        "digit_sum(0) == 0; digit_sum(-123) == 6; digit_sum(99) == 18",
        "return sum(int(digit) for digit in str(abs(n)))",
    ),
    _task(
        "is_palindrome(text)",
        "It tells whether a text reads the same backwards, letters and digits only, in any case.",
        "is_palindrome('A man, a plan, a canal: Panama'); not is_palindrome('ab'); "
        "is_palindrome('')",
        "kept = [c for c in text.lower() if c.isalnum()]; return kept == kept[::-1]",
    ),
    _task(
        "to_roman(n)",
        "It returns a number from 1 to 3999 in Roman numerals.",
        "to_roman(4) == 'IV'; to_roman(1994) == 'MCMXCIV'; to_roman(3999) == 'MMMCMXCIX'",
        "pairs = [(1000, 'M'), (900, 'CM'), (500, 'D'), (400, 'CD'), (100, 'C'), (90, 'XC'), "
        "(50, 'L'), (40, 'XL'), (10, 'X'), (9, 'IX'), (5, 'V'), (4, 'IV'), (1, 'I')]\n"
        "    out = ''\n"
        "    for value, sign in pairs:\n"
        "        out += sign * (n // value)\n"
        "        n %= value\n"
        "    return out",
    ),
    _task(
        "balanced(text)",
        "It tells whether the brackets (), [] and {} of a text are balanced.",
        "balanced('a(b[c]{d})'); not balanced('([)]'); not balanced('('); balanced('')",
        "stack = []\n"
        "    for c in text:\n"
        "        if c in '([{':\n"
        "            stack.append(c)\n"
        "        elif c in ')]}' and (not stack or stack.pop() + c not in ('()', '[]', '{}')):\n"
        "            return False\n"
        "    return not stack",
    ),
    _task(
        "flatten(items)",
        "It returns the items of a list of lists, nested to any depth, as one flat list.",
        "flatten([1, [2, [3, []]]]) == [1, 2, 3]; flatten([]) == []; flatten([[['a']]]) == ['a']",
        "return [x for i in items for x in (flatten(i) if isinstance(i, list) else [i])]",
    ),
    _task(
        "primes_below(n)",
        "It returns all prime numbers below n, in order.",
        "primes_below(2) == []; primes_below(12) == [2, 3, 5, 7, 11]; len(primes_below(100)) == 25",
        "return [p for p in range(2, n) if all(p % d for d in range(2, int(p**0.5) + 1))]",
    ),
    _task(
        "gcd(a, b)",
        "It returns the greatest common divisor of two whole numbers, not negative.",
        "gcd(12, 18) == 6; gcd(0, 5) == 5; gcd(7, 13) == 1",
        "return gcd(b, a % b) if b else a",
    ),
    _task(
        "word_counts(text)",
        "It returns a dict from each word, in lower case, to how often it occurs. Words are split "
        "at white space.",
        "word_counts('a b A') == {'a': 2, 'b': 1}; word_counts('') == {}; "
        "word_counts(' x  x ') == {'x': 2}",
        "words = text.lower().split(); return {word: words.count(word) for word in words}",
    ),
    _task(
        "rotate(items, k)",
        "It returns a list rotated to the right by k places; k may be larger than the list.",
        "rotate([1, 2, 3], 1) == [3, 1, 2]; rotate([1, 2, 3], 4) == [3, 1, 2]; rotate([], 3) == []",
        "k = k % len(items) if items else 0; return items[-k:] + items[:-k] if k else list(items)",
    ),
    _task(
        "longest_word(text)",
        "It returns the longest word of a text, of equally long ones the first; '' if it has none.",
        "longest_word('a bcd ef') == 'bcd'; longest_word('ab cd') == 'ab'; longest_word('') == ''",
        "return max(text.split(), key=len, default='')",
    ),
    _task(
        "transpose(rows)",
        "It returns a matrix, given as a list of rows, with rows and columns exchanged.",
        "transpose([[1, 2], [3, 4]]) == [[1, 3], [2, 4]]; transpose([[1, 2, 3]]) == "
        "[[1], [2], [3]]; transpose([]) == []",
        "return [list(column) for column in zip(*rows)]",
    ),
    _task(
        "binary_search(items, wanted)",
        "It returns the index of an item in a sorted list, or -1.",
        "binary_search([1, 3, 5], 5) == 2; binary_search([], 1) == -1; "
        "binary_search([1, 3, 5], 2) == -1",
        "return items.index(wanted) if wanted in items else -1",
    ),
    _task(
        "caesar(text, shift)",
        "It shifts the letters a to z and A to Z of a text by a number of places, round the "
        "alphabet, and leaves all else.",
        "caesar('abc', 1) == 'bcd'; caesar('Zz!', 1) == 'Aa!'; caesar('b', -3) == 'y'",
        "out = ''\n"
        "    for c in text:\n"
        "        base = 97 if 'a' <= c <= 'z' else 65 if 'A' <= c <= 'Z' else None\n"
        "        out += c if base is None else chr((ord(c) - base + shift) % 26 + base)\n"
        "    return out",
    ),
    _task(
        "median(numbers)",
        "It returns the median of a list of numbers that is not empty.",
        "median([3, 1, 2]) == 2; median([4, 1, 2, 3]) == 2.5; median([7]) == 7",
        "s, n = sorted(numbers), len(numbers); return (s[(n - 1) // 2] + s[n // 2]) / 2",
    ),
    _task(
        "common_prefix(words)",
        "It returns the longest beginning that all words of a list share.",
        "common_prefix(['flower', 'flow']) == 'flow'; common_prefix([]) == ''; "
        "common_prefix(['a', 'b']) == ''",
        "import os.path; return os.path.commonprefix(words)",
    ),
    _task(
        "chunks(items, size)",
        "It cuts a list into lists of a given size; the last one may be shorter.",
        "chunks([1, 2, 3], 2) == [[1, 2], [3]]; chunks([], 2) == []; chunks([1], 5) == [[1]]",
        "return [items[i:i + size] for i in range(0, len(items), size)]",
    ),
    _task(
        "parse_time(text)",
        "It turns a duration such as '1h 30m 5s', of which parts may be missing, into seconds.",
        "parse_time('1h 30m 5s') == 5405; parse_time('45m') == 2700; parse_time('') == 0",
        "unit = {'h': 3600, 'm': 60, 's': 1}\n"
        "    return sum(int(part[:-1]) * unit[part[-1]] for part in text.split())",
    ),
    _task(
        "unique(items)",
        "It returns the items of a list without repetitions, in the order of their first ones.",
        "unique([3, 1, 3]) == [3, 1]; unique([]) == []; unique(['a', 'a']) == ['a']",
        "return list(dict.fromkeys(items))",
    ),
    _task(
        "fibonacci(n)",
        "It returns the n-th Fibonacci number; fibonacci(0) is 0 and fibonacci(1) is 1.",
        "fibonacci(0) == 0; fibonacci(10) == 55; fibonacci(50) == 12586269025",
        "a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a",
    ),
)


def generate() -> Dataset:
    """Return all tasks."""
    samples = tuple(
        Sample(
            f"code-{task.name}",
            "code",
            (Message("user", _ASK.format(head=task.head, what=task.what)),),
            "code",
            {"entry": task.name, "cases": list(task.cases)},
        )
        for task in TASKS
    )
    return Dataset("code", samples, "code tasks of localfusion")
