"""Arms: ways to answer that are compared on the same recorded panels."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

from localfusion.config import Preset, nearest
from localfusion.errors import ConfigError, RequestError
from localfusion.evals.samples import Json
from localfusion.fusion.changes import changed

Source = Literal["panel", "alone", "draws", "foreign", "subset", "pilot"]
SUBSET = "subset:"
POLICY_ARMS = ("vote", "select", "fuse", "auto", "consensus", "verify")
"""Policies that answer from the whole recorded panel."""
VARIANTS: Mapping[str, Json] = {
    "none": {"policy": "fuse", "analysis": "none"},
    "inline": {"policy": "fuse", "analysis": "inline"},
    "separate": {"policy": "fuse", "analysis": "separate"},
    "random": {"policy": "fuse", "order": "random"},
    "no-traces": {"policy": "fuse", "traces": "drop"},
}
"""Of ``fuse``, by the name behind its colon."""
DEFAULT = ("judge", "self_fusion", "self_vote", "vote", "select", "fuse", "fuse:none", "auto")
OTHERS = ("consensus", "verify", "cascade", "foreign", "subsets", *(f"fuse:{v}" for v in VARIANTS))
MOST_SUBSET_MEMBERS = 5
"""Of a panel whose subsets are all judged: 26 runs for each sample."""
_NOT_RECORDABLE = {
    "single": "it has no panel",
    "self_fusion": "its panel is its judge; self_fusion is an arm of every other preset's run",
    "layered": "its second round reads the first, so that no panel can be recorded once for all",
}


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to answer.

    Attributes:
        source: What it answers from: the recorded ``panel``; nothing (``alone``: the judge's own
            answer); ``draws`` of the best member; the panel of another sample (``foreign``); the
            recorded candidates of some members (``subset``); samples of the first member
            (``pilot``).
        changes: Of the preset, as a request names them.
        members: Of a subset.
    """

    name: str
    source: Source
    changes: Json = field(default_factory=dict)
    members: tuple[str, ...] = ()

    @property
    def is_live(self) -> bool:
        """Whether a client could ask for it, so that its time can be measured."""
        return self.source not in ("foreign", "subset")


def served_arm(preset: Preset) -> str:
    """Return the name of the arm that answers as the preset does.

    Raises:
        ConfigError: no panel of this preset can be recorded; says why.
    """
    if preset.policy in _NOT_RECORDABLE:
        why = _NOT_RECORDABLE[preset.policy]
        raise ConfigError(
            f"a preset of policy {preset.policy} cannot be evaluated: {why}; name a preset that "
            "fuses, votes or selects"
        )
    return preset.policy


def parse_arms(wanted: Iterable[str] | None, preset: Preset, members: Sequence[str]) -> list[Arm]:
    """Return the arms that are asked for, each once; the preset's own is always among them.

    Args:
        wanted: Names; None: the usual ones.
        preset: As it is served.
        members: Names of the panel's members.

    Raises:
        ConfigError: there is no such arm, or this preset cannot have it.
    """
    names = [served_arm(preset), *(DEFAULT if wanted is None else wanted)]
    arms: dict[str, Arm] = {}
    for name in names:
        for arm in _arms(name, preset, members):
            _check(arm, preset)
            arms.setdefault(arm.name, arm)
    return list(arms.values())


def _arms(name: str, preset: Preset, members: Sequence[str]) -> list[Arm]:
    if name == "subsets":
        return _subsets(members)
    if name == "judge":
        return [Arm(name, "alone")]
    if name in ("self_fusion", "self_vote"):
        policy = "vote" if name == "self_vote" else "fuse"
        return [Arm(name, "draws", _policy(policy, preset))]
    if name == "foreign":
        return [Arm(name, "foreign", _policy("fuse", preset))]
    if name == "cascade":
        return [Arm(name, "pilot", _policy("cascade", preset))]
    if name in POLICY_ARMS:
        return [Arm(name, "panel", _policy(name, preset))]
    kind, _, variant = name.partition(":")
    if kind == "fuse" and variant in VARIANTS:
        return [Arm(name, "panel", VARIANTS[variant])]
    known = dict.fromkeys((*DEFAULT, *OTHERS))
    raise ConfigError(f"--arms: there is no arm {name[:64]!r}; {nearest(name, known)}")


def _policy(policy: str, preset: Preset) -> Json:
    return {} if preset.policy == policy else {"policy": policy}


def _subsets(members: Sequence[str]) -> list[Arm]:
    if not 2 <= len(members) <= MOST_SUBSET_MEMBERS:
        raise ConfigError(
            f"--arms subsets: the panel has {len(members)} members; it takes 2 to "
            f"{MOST_SUBSET_MEMBERS}, for every subset of them is judged"
        )
    return [
        Arm(SUBSET + "+".join(chosen), "subset", members=chosen)
        for size in range(2, len(members))
        for chosen in combinations(members, size)
    ]


def _check(arm: Arm, preset: Preset) -> None:
    try:
        changed(preset, arm.changes)
    except RequestError as error:
        raise ConfigError(f"--arms: {arm.name}: {error}") from error


def settings_of(arm: Arm, preset: Preset) -> Preset:
    """Return the preset as an arm has it."""
    return changed(preset, arm.changes)
