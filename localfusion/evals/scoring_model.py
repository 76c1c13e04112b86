"""The model that grades open answers: an engine of models.yaml, asked at temperature 0."""

from collections.abc import Collection, Mapping
from contextlib import aclosing

from localfusion.errors import ConfigError
from localfusion.evals.samples import digest_of
from localfusion.fusion import Fusion
from localfusion.types import Message, Prompt, SamplingParams

MOST_TOKENS = 512
"""Of a reply: an explanation and a word."""


class EngineScoring:
    """Grades with one engine of a running system.

    Args:
        fusion: Has the engine.
        name: Of its model.
        engine: What tells its weights and version from others'.
    """

    def __init__(self, fusion: Fusion, name: str, engine: str) -> None:
        self._fusion = fusion
        self._name = name
        self._identity = digest_of([name, engine, MOST_TOKENS])

    @property
    def name(self) -> str:
        return self._name

    @property
    def identity(self) -> str:
        return self._identity

    async def reply(
        self, messages: tuple[Message, ...], schema: Mapping[str, object], *, seed: int = 0
    ) -> str:
        """Return its reply without its reasoning.

        Raises:
            FusionError: it does not answer.
        """
        sampling = SamplingParams(temperature=0.0, max_tokens=MOST_TOKENS, seed=seed)
        prompt = Prompt(messages, sampling, schema=schema, interval=16)
        async with (
            self._fusion.lease([self._name]) as engines,
            aclosing(engines[self._name].generate(prompt)) as deltas,
        ):
            return "".join([delta.text async for delta in deltas])


def check_kin(name: str, others: Collection[str], weights: Mapping[str, str | None]) -> None:
    """Refuse a scoring model that is the judge or a member under any name.

    Args:
        name: Of the scoring model.
        others: The judge and the members.
        weights: Digests of their weights, where they are known.

    Raises:
        ConfigError: it would grade its own answers.
    """
    for other in others:
        same = weights.get(name) is not None and weights.get(name) == weights.get(other)
        if name == other or same:
            raise ConfigError(
                f"--scoring-model: {name} is {other}, which answers in this evaluation; name a "
                "model that does not, or allow it with --allow-kin"
            )
