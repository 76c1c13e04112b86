"""How an answer is made: coroutines over a run's verbs. Each ends with an answer on every path.

Keyword-only parameters are a policy's options, set in a preset and checked at start.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, get_args

from localfusion.config import nearest
from localfusion.errors import ConfigError
from localfusion.fusion.run import Run
from localfusion.types import Answer

Policy = Callable[..., Awaitable[Answer]]


async def single(run: Run) -> Answer:
    """Let one model answer: a plain model's name, and every baseline."""
    return await run.write()


async def fuse(run: Run, *, analysis: Literal["separate", "none"] = "separate") -> Answer:
    """Ask the panel, let the judge compare the drafts, and write one answer from them.

    Args:
        run: The request on its way.
        analysis: ``separate``: an own call that fills the five-part analysis; ``none``: the judge
            writes at once, cheaper by that call.
    """
    candidates = await run.ask()
    if len(candidates) == 1:
        return await run.choose(candidates[0], status="single", reason="one_survivor")
    compared = await run.analyze(candidates) if analysis == "separate" else None
    return await run.synthesize(candidates, compared)


POLICIES: Mapping[str, Policy] = {"single": single, "fuse": fuse}


def check_policy(preset: str, policy: str, options: Mapping[str, object]) -> None:
    """Raise ConfigError unless the policy exists and takes these options."""
    if policy not in POLICIES:
        raise ConfigError(
            f"presets.{preset}.policy: no policy {policy!r}; {nearest(policy, POLICIES)}"
        )
    parameters = inspect.signature(POLICIES[policy]).parameters
    known = {n: p for n, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    for name, value in options.items():
        where = f"presets.{preset}.options.{name}"
        if name not in known:
            hint = nearest(name, known) if known else "it has none"
            raise ConfigError(f"{where}: policy {policy} has no such option; {hint}")
        allowed = get_args(known[name].annotation)
        if allowed and value not in allowed:
            raise ConfigError(f"{where}: {value!r} is none of {', '.join(map(str, allowed))}")
