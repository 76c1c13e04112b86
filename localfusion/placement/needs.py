"""What placement is asked for: models with their sizes, and the presets that they must serve."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from localfusion.memory import Architecture

GIB = 1 << 30
BLOCK = 32
"""Tokens of a KV block: the smallest that vLLM's CPU kernels like; serves GPUs as well."""
DEFAULT_MAX_MODEL_LEN = 4096
DEFAULT_MAX_NUM_SEQS = 8
DEFAULT_MAX_NUM_BATCHED_TOKENS = 4096

Role = Literal["member", "judge"]
Step = Literal["share_judge", "context", "phases"]
ALL_STEPS: tuple[Step, ...] = ("share_judge", "context", "phases")


def gib(count: int) -> str:
    """Return bytes in words, ``1.5 GiB``."""
    return f"{count / GIB:.1f} GiB"


@dataclass(frozen=True, slots=True)
class ModelNeed:
    """What placement must know of a model.

    Attributes:
        weight_bytes: All tensors as they are loaded on a GPU, over all ranks.
        max_num_batched_tokens: Prompt tokens that one step of the engine reads at most.
        kv_element_bytes: Of one number in the KV cache; None: as wide as what it computes in.
        tensor_parallel_size: GPUs that share the weights; None: the planner chooses.
        is_eager: It captures no CUDA graphs.
        is_on_disk: False when the figures come from the catalogue in models.yaml.
    """

    name: str
    shape: Architecture
    weight_bytes: int
    max_model_len: int = DEFAULT_MAX_MODEL_LEN
    max_num_seqs: int = DEFAULT_MAX_NUM_SEQS
    max_num_batched_tokens: int = DEFAULT_MAX_NUM_BATCHED_TOKENS
    kv_element_bytes: int | None = None
    tensor_parallel_size: int | None = None
    is_eager: bool = False
    is_on_disk: bool = True

    @property
    def window(self) -> int:
        """The longest context that the model was made for, tokens."""
        return self.shape.max_position_embeddings


@dataclass(frozen=True, slots=True)
class PresetNeed:
    """A preset, as far as placement is concerned.

    Attributes:
        members: Models of the panel that run here, each once.
        judge: None when there is none, or when it runs elsewhere.
        judge_tokens: What the judge must read and write beside the conversation.
    """

    members: tuple[str, ...]
    judge: str | None = None
    judge_tokens: int = 0

    @property
    def has_own_judge(self) -> bool:
        """Whether the judge is no member."""
        return self.judge is not None and self.judge not in self.members


@dataclass(frozen=True, slots=True)
class Demand:
    """Models and presets that must be served together.

    Attributes:
        needs: By model; largest first.
        judges: Presets with another judge than was asked for.
    """

    needs: Mapping[str, ModelNeed]
    presets: Mapping[str, PresetNeed]
    judges: Mapping[str, str]

    @classmethod
    def of(cls, needs: Iterable[ModelNeed], presets: Mapping[str, PresetNeed]) -> "Demand":
        """Sort the needs, so that their order does not matter."""
        ordered = sorted(needs, key=lambda need: (-need.weight_bytes, need.name))
        return cls({need.name: need for need in ordered}, dict(sorted(presets.items())), {})

    @property
    def members(self) -> tuple[str, ...]:
        """Models that are asked in parallel, largest first."""
        asked = {name for preset in self.presets.values() for name in preset.members}
        return tuple(name for name in self.needs if name in asked)

    @property
    def judging(self) -> tuple[str, ...]:
        """Models that judge, largest first."""
        asked = {preset.judge for preset in self.presets.values()}
        return tuple(name for name in self.needs if name in asked)

    @property
    def own_judges(self) -> tuple[str, ...]:
        """Judges of presets of which they are no members, largest first."""
        asked = {preset.judge for preset in self.presets.values() if preset.has_own_judge}
        return tuple(name for name in self.needs if name in asked)

    def roles(self, model: str) -> tuple[Role, ...]:
        member: tuple[Role, ...] = ("member",) if model in self.members else ()
        return (*member, "judge") if model in self.judging else member

    def judge_tokens(self, model: str) -> int | None:
        """Return what a judge must hold beside the conversation; None when it judges nothing."""
        asked = [p.judge_tokens for p in self.presets.values() if p.judge == model]
        return max(asked, default=None)

    def phases(self) -> tuple[tuple[str, ...], ...]:
        """Return the panel's and the judges' models; a preset's member that judges stays panel."""
        return self.members, self.own_judges

    def without(self, model: str) -> "Demand | None":
        """Return this without a member; None where a preset would lose its judge or its panel."""
        if model in self.judging:
            return None
        presets = {
            name: replace(preset, members=tuple(m for m in preset.members if m != model))
            for name, preset in self.presets.items()
        }
        if not all(preset.members for preset in presets.values()):
            return None
        return Demand({n: v for n, v in self.needs.items() if n != model}, presets, self.judges)

    def with_need(self, *needs: ModelNeed) -> "Demand":
        """Return this with other needs of some of its models."""
        changed = {**self.needs, **{need.name: need for need in needs}}
        return replace(Demand.of(changed.values(), self.presets), judges=self.judges)

    def with_shared_judges(self, dropped: Iterable[str]) -> "Demand | None":
        """Let the largest member of a preset judge in place of a model that is dropped.

        It gets the context that the dropped judge had, as far as it was made for it.

        Returns:
            None when a dropped model would have to stay, or a preset has no member here.
        """
        gone = frozenset(dropped)
        needs = {name: need for name, need in self.needs.items() if name not in gone}
        presets, judges = dict(self.presets), dict(self.judges)
        for name, preset in self.presets.items():
            if gone.intersection(preset.members):
                return None
            if preset.judge is None or preset.judge not in gone:
                continue
            heir = next((model for model in needs if model in preset.members), None)
            if heir is None:
                return None
            context = min(self.needs[preset.judge].max_model_len, needs[heir].window)
            longest = max(needs[heir].max_model_len, context)
            needs[heir] = replace(needs[heir], max_model_len=longest)
            presets[name] = replace(preset, judge=heir)
            judges[name] = heir
        return Demand(needs, presets, judges)
