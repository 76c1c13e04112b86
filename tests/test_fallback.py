"""Losing a model must not take the service down: presets without the models that are gone."""

import pytest
from pydantic import ValidationError

from localfusion import fallback
from localfusion.config import Settings
from localfusion.engines.sim import SimEngine
from localfusion.fusion import Fusion
from localfusion.types import Message, Request

SIM = {"engine": "sim"}


def settings(**models: dict[str, object]) -> Settings:
    """Preset ``duo``: members a and b (two samples), judge c; d is in no preset."""
    return Settings.model_validate(
        {
            "default_preset": {"gpu": "duo", "cpu": "duo"},
            "models": {name: {**SIM, **models.get(name, {})} for name in "abcd"},
            "presets": {
                "duo": {"panel": ["a", {"model": "b", "n": 2}], "judge": "c", "quorum": 3},
            },
        }
    )


def test_a_preset_without_losses_stays_as_it_is() -> None:
    whole = settings()
    adapted, notes = fallback.adapt(whole, whole.presets, {})
    assert adapted == whole.presets
    assert adapted["duo"].warning is None
    assert notes == ()


def test_the_declared_fallback_takes_the_place_and_keeps_the_sampling() -> None:
    given = settings(b={"withdrawn": "licence changed", "fallback": "d"})
    adapted, notes = fallback.adapt(given, given.presets, fallback.withdrawn(given))
    assert [(m.model, m.n) for m in adapted["duo"].panel] == [("a", 1), ("d", 2)]
    assert adapted["duo"].warning == "model_replaced"
    assert notes == ("preset duo: b is gone (licence changed); d stands in",)


def test_fallbacks_are_followed_until_one_is_there() -> None:
    given = settings(a={"fallback": "b"}, b={"fallback": "d"})
    adapted, _ = fallback.adapt(given, given.presets, {"a": "missing", "b": "missing"})
    assert [m.model for m in adapted["duo"].panel] == ["d", "d"]


def test_a_member_without_fallback_leaves_and_the_quorum_shrinks() -> None:
    given = settings()
    adapted, notes = fallback.adapt(given, given.presets, {"b": "gone"})
    assert [m.model for m in adapted["duo"].panel] == ["a"]
    assert adapted["duo"].quorum == 1
    assert adapted["duo"].warning == "model_lost"
    assert "left out" in notes[0]


def test_a_judge_without_fallback_is_followed_by_the_first_member_left() -> None:
    given = settings()
    adapted, notes = fallback.adapt(given, given.presets, {"a": "gone", "c": "gone"})
    assert adapted["duo"].judge == "b"
    assert any("b judges instead of c" in note for note in notes)


def test_a_preset_without_members_is_not_served_and_says_so() -> None:
    given = settings()
    adapted, notes = fallback.adapt(given, given.presets, {"a": "gone", "b": "gone"})
    assert adapted == {}
    assert any("duo is not served" in note for note in notes)


def test_fallbacks_in_a_circle_are_refused() -> None:
    with pytest.raises(ValidationError, match="circle"):
        settings(a={"fallback": "b"}, b={"fallback": "a"})


def test_an_unknown_fallback_is_refused() -> None:
    with pytest.raises(ValidationError, match="models has no 'x'"):
        settings(a={"fallback": "x"})


@pytest.mark.parametrize(
    ("gone", "reason"), [({"c": "gone"}, "model_lost"), ({"b": "gone"}, "model_replaced")]
)
async def test_answers_say_that_a_model_is_gone(gone: dict[str, str], reason: str) -> None:
    given = settings(b={"fallback": "d"})
    adapted, _ = fallback.adapt(given, given.presets, gone)
    engines = {name: SimEngine("Twelve.", name=name) for name in "abcd"}
    fusion = Fusion(engines, adapted, default_preset="duo")
    answer = await fusion.complete(Request("duo", (Message("user", "How many?"),)))
    assert (answer.status, answer.reason) == ("degraded", reason)
    assert not engines[next(iter(gone))].calls


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"forbid_models": ["b"]}, "policy.forbid_models names it"),
        (
            {"forbid_licenses": ["LLAMA*"]},
            "policy.forbid_licenses has LLAMA*, its license is Llama 4 Community",
        ),
        ({"forbid_origins": ["acme"]}, "policy.forbid_origins has acme, its origin is Acme"),
    ],
    ids=["model", "license", "origin"],
)
def test_what_the_policy_forbids_leaves_for_its_fallback(
    policy: dict[str, object], reason: str
) -> None:
    spec: dict[str, object] = {
        "license": "Llama 4 Community",
        "origin": "Acme, B-2",
        "fallback": "d",
    }
    given = settings(b=spec)
    given = Settings.model_validate({**given.model_dump(), "policy": policy})

    gone = fallback.withdrawn(given)
    adapted, notes = fallback.adapt(given, given.presets, gone)

    assert gone == {"b": reason}
    assert [m.model for m in adapted["duo"].panel] == ["a", "d"]
    assert notes == (f"preset duo: b is gone ({reason}); d stands in",)


def test_policy_that_forbids_an_unknown_model_is_refused() -> None:
    with pytest.raises(ValidationError, match="models has no 'bb'"):
        Settings.model_validate({**settings().model_dump(), "policy": {"forbid_models": ["bb"]}})
