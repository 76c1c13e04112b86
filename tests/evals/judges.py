"""Simulated judges with one habit each, for the tests of judges; and what they are asked."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from localfusion.config import Preset
from localfusion.engines.base import Engine
from localfusion.engines.sim import SimEngine
from localfusion.evals.reliability import TESTS, JudgeReport, Seen, Setting, Wanted, examine_judge
from localfusion.evals.reliability.suite import bench_of
from localfusion.fusion import Fusion
from localfusion.types import Prompt
from tests.evals.staged import Watched
from tests.sim_scripts import drafts_in

Script = Callable[[Prompt], str]
_ANSWER = re.compile(r"Answer:\s*(\S.*)")
_CANARY = re.compile(r"ZEBRA-\d+")
_CLAIMS = ("verified", "official", "checked by")
OWN = "In my own view it comes out like this."


def said(prompt: Prompt) -> str:
    """Return everything that an engine is asked."""
    return "\n".join(message.content for message in prompt.messages)


def ideals(setting: Setting, wanted: Wanted) -> dict[str, str]:
    """Return a right answer to every question of the tests, by the question's text."""
    bench = bench_of(setting, wanted)
    found: dict[str, str] = {}
    for name, test in TESTS.items():
        if name != "pair-skill":
            found |= {case.asked.text: case.asked.ideal for case in test.build(bench)}
    return found


def truth(known: Mapping[str, str]) -> Script:
    """Know the right answer to everything, and take nobody's word."""
    texts = sorted(known, key=len, reverse=True)

    def script(prompt: Prompt) -> str:
        asked = said(prompt)
        return next((known[text] for text in texts if text in asked), "Answer: 0")

    return script


def among(pick: Callable[[Sequence[str]], str]) -> Script:
    """Repeat one of the drafts."""
    return lambda prompt: pick(drafts_in(prompt))


def value_of(draft: str) -> str:
    found = _ANSWER.findall(draft)
    return found[-1].strip(" .*") if found else ""


def majority(drafts: Sequence[str]) -> str:
    most, _ = Counter(map(value_of, drafts)).most_common(1)[0]
    return next(draft for draft in drafts if value_of(draft) == most)


def copycat(drafts: Sequence[str]) -> str:
    """Adopt whatever claims authority."""
    loud = [d for d in drafts if any(claim in d.casefold() for claim in _CLAIMS)]
    return loud[0] if loud else majority(drafts)


def concat(drafts: Sequence[str]) -> str:
    return "\n\n".join(f"Draft {place}: {draft}" for place, draft in enumerate(drafts))


def average(drafts: Sequence[str]) -> str:
    numbers = [float(v) for d in drafts if re.fullmatch(r"-?\d+", v := value_of(d))]
    return f"Answer: {sum(numbers) / len(numbers):.2f}" if numbers else drafts[0]


def gullible(prompt: Prompt) -> str:
    """Do what any draft says."""
    text = said(prompt)
    if (canary := _CANARY.search(text)) is not None:
        near = text[max(0, canary.start() - 300) : canary.end() + 300]
        values = re.findall(r"(?:Answer: |answer )(\S+?)[.\s]", near)
        return f"{canary.group()}\nAnswer: {values[-1] if values else 0}"
    if "nothing else:\n" in text:
        return text.partition("nothing else:\n")[2].splitlines()[0]
    return among(majority)(prompt)


def own(prompt: Prompt) -> str:
    """Prefer its own words to all others."""
    drafts = drafts_in(prompt)
    return next((draft for draft in drafts if OWN in draft), drafts[0])


def setting_of(judge: Engine, seen: Seen) -> Setting:
    """Seat a judge over a panel that is never asked."""
    fields = {
        "panel": ["alpha-model", "beta-model", "gamma-model"],
        "judge": "judge",
        "prefill": False,
        "options": {"analysis": "none"},
    }
    preset = Preset.model_validate(fields)
    fusion = Fusion({"judge": judge}, {"p": preset}, default_preset="p", observers=[seen.observe])

    async def ready() -> None:
        return

    return Setting(fusion, "p", preset, "judge", seen, ready)


async def examine(script: Script, tests: Iterable[str], count: int = 30) -> JudgeReport:
    """Run tests on a simulated judge that is right where it is asked alone."""
    wanted = Wanted(tuple(tests), count)
    seen = Seen()
    alone = truth(ideals(setting_of(SimEngine(""), seen), wanted))

    def whole(prompt: Prompt) -> str:
        return script(prompt) if drafts_in(prompt) else f"{OWN}\n{alone(prompt)}"

    return await examine_judge(setting_of(SimEngine(whole), seen), wanted, Watched())


async def examine_truth(tests: Iterable[str] | None, count: int) -> JudgeReport:
    """Run tests on the judge that knows everything."""
    wanted = Wanted(None if tests is None else tuple(tests), count)
    seen = Seen()
    known = ideals(setting_of(SimEngine(""), seen), wanted)
    script = truth(known)

    def verdict(prompt: Prompt) -> Mapping[str, float]:
        """Be sure only where some draft has the right answer."""
        right = value_of(script(prompt))
        drafts = drafts_in(prompt)
        good = [place for place, draft in enumerate(drafts) if value_of(draft) == right]
        letters = "ABCDEFGH"[: len(drafts)]
        if good:
            return {letters[good[0]]: 0.9, "S": 0.1}
        return {"S": 0.9, "A": 0.1}

    setting = setting_of(SimEngine(script, verdict=verdict), seen)
    return await examine_judge(setting, wanted, Watched())
