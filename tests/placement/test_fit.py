"""What is given up so that models fit: in order, no more than needed, and said."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings

from localfusion.errors import PlacementError
from localfusion.hardware import Hardware
from localfusion.placement import GIB, ModelNeed, Plan, PresetNeed, Step, plan
from tests.placement.asking import SMALL_CPU, Asked, asked, fits, gpus, machines, members, need

PANEL = [need("a", 10), need("b", 5), need("j", 12)]
PRESET = members("a", "b", judge="j")


def test_nothing_is_given_up_when_all_fits() -> None:
    made = plan(PANEL, PRESET, gpus(40))

    assert made.groups == (("j", "a", "b"),)
    assert (made.judges, made.notes) == ({}, ())
    assert not any(slot.sleeps for slot in made.slots)


def test_model_that_is_member_and_judge_is_one_engine() -> None:
    made = plan(PANEL[:2], members("a", "b", judge="a"), gpus(40))

    assert [(slot.model, slot.roles) for slot in made.slots] == [
        ("a", ("member", "judge")),
        ("b", ("member",)),
    ]


def test_first_the_largest_member_judges() -> None:
    made = plan(PANEL, PRESET, gpus(24))

    assert made.judges == {"p": "a"}
    assert [slot.model for slot in made.slots] == ["a", "b"]
    assert made["a"].roles == ("member", "judge")
    assert len(made.groups) == 1
    assert any("preset p: a judges instead of j" in note for note in made.notes)


def test_member_that_judges_gets_the_context_that_the_judge_had() -> None:
    judge = need("j", 12, max_model_len=16_384)

    made = plan([*PANEL[:2], judge], PRESET, gpus(24))

    assert made["a"].max_model_len == 16_384
    assert "a: a context of 16384 tokens, not 4096" in made.notes


def test_only_the_judge_that_is_in_the_way_is_shared() -> None:
    presets = {"p": PresetNeed(("a", "b"), "j"), "q": PresetNeed(("a", "b"), "k")}

    made = plan([*PANEL, need("k", 2)], presets, gpus(30))

    assert made.judges == {"p": "a"}
    assert {slot.model for slot in made.slots} == {"a", "b", "k"}


def test_judge_that_is_a_member_elsewhere_is_not_dropped() -> None:
    presets = {"p": PresetNeed(("a", "b"), "j"), "q": PresetNeed(("j",))}

    with pytest.raises(PlacementError):
        plan(PANEL, presets, gpus(24), ["share_judge"])


def test_then_fewer_requests_at_once() -> None:
    needs = [need("a", 10, max_num_seqs=64), need("b", 5, max_num_seqs=16)]

    made = plan(needs, members("a", "b"), gpus(24))

    assert made["a"].max_num_seqs < 64
    assert made["a"].max_model_len == 4096
    assert any("requests at once, not 64" in note for note in made.notes)


def test_then_shorter_contexts_but_no_shorter_than_the_judge_needs() -> None:
    needs = [need("a", 10, max_model_len=32_768), need("b", 5, max_model_len=32_768)]

    made = tightest(needs, members("a", "b", judge="a", tokens=9_000))

    assert made["a"].max_model_len == 9_000 + 2_048
    assert made["b"].max_model_len == 4_096
    assert "b: a context of 4096 tokens, not 32768, 4 requests at once, not 8" in made.notes


def tightest(needs: list[ModelNeed], presets: dict[str, PresetNeed]) -> Plan:
    """Plan for the smallest card on which the models fit at all."""
    for tenths in range(100, 1000):
        with suppress(PlacementError):
            return plan(needs, presets, gpus(tenths / 10), ["context"])
    raise AssertionError("they never fit")


def test_engine_is_not_cut_where_its_own_card_has_room() -> None:
    needs = [need("a", 60, max_model_len=32_768), need("b", 5, max_model_len=32_768)]
    short = plan([need("a", 60, max_model_len=16_384)], members("a"), gpus(80))["a"].bytes / GIB

    made = plan(needs, members("a", "b"), gpus(short - 1.5, 40))

    assert made["a"].max_model_len < 32_768
    assert made["b"].max_model_len == 32_768


def test_then_panel_and_judge_take_turns_and_sleepers_keep_a_little() -> None:
    made = plan(PANEL, PRESET, gpus(24), ["context", "phases"])

    assert made.groups == (("a", "b"), ("j",))
    awake = {s.model: s.is_asleep for s in made.shares("gpu0", made.groups[1])}
    assert awake == {"j": False, "a": True, "b": True}
    assert all(slot.asleep_bytes == int(1.3 * GIB) for slot in made.slots)
    assert any("take turns" in note for note in made.notes)
    assert any("each turn pays two swaps" in note for note in made.notes)


def test_room_is_kept_for_what_sleepers_keep() -> None:
    alone = plan([need("j", 15)], members("j"), gpus(80))["j"].bytes / GIB
    panel = [need("a", 5), need("b", 5), need("j", 15)]

    with pytest.raises(PlacementError):
        plan(panel, PRESET, gpus(alone + 2.5), ["phases"])
    made = plan(panel, PRESET, gpus(alone + 2.7), ["phases"])

    assert len(made.groups) == 2


def test_judge_that_is_a_member_elsewhere_never_leaves() -> None:
    presets = {"p": PresetNeed(("a",), "j"), "q": PresetNeed(("j",), "k")}
    needs = [need("a", 10), need("j", 5), need("k", 12)]

    made = plan(needs, presets, gpus(24), ["phases"])

    assert [set(group) for group in made.groups] == [{"a", "j"}, {"j", "k"}]
    assert not made["j"].sleeps


def test_judge_that_is_a_member_of_its_preset_works_in_the_panels_turn() -> None:
    presets = {"p": PresetNeed(("a",), "a"), "q": PresetNeed(("b",), "k")}
    needs = [need("a", 10), need("b", 5), need("k", 12)]

    made = plan(needs, presets, gpus(24), ["phases"])

    assert [set(group) for group in made.groups] == [{"a", "b"}, {"k"}]


def test_no_turns_without_main_memory_for_the_sleepers() -> None:
    small = replace(gpus(24), cpu=SMALL_CPU.cpu)

    with pytest.raises(PlacementError):
        plan(PANEL, PRESET, small, ["phases"])


def test_order_of_fit_is_the_order_of_preference() -> None:
    shared, turns = (
        plan(PANEL, PRESET, gpus(24), fit)
        for fit in (("share_judge", "phases"), ("phases", "share_judge"))
    )

    assert (len(shared.groups), len(turns.groups)) == (1, 2)
    assert turns.judges == {}


def check(made: Plan, needs: list[ModelNeed], hardware: Hardware) -> None:
    free = {gpu.id: gpu.free_bytes for gpu in hardware.gpus} or {"memory": hardware.cpu.free_bytes}
    for group in made.groups:
        for device, room in free.items():
            shares = made.shares(device, group)
            ends = [0, *(share.end for share in shares)]
            assert all(s.begin >= e for s, e in zip(shares, ends, strict=False))
            assert ends[-1] <= room
    kinds = {gpu.id: (gpu.name, gpu.total_bytes) for gpu in hardware.gpus}
    asked = {need.name: need for need in needs}
    for slot in made.slots:
        assert len({kinds[id] for id in slot.devices}) == (1 if hardware.gpus else 0)
        assert len(set(slot.devices)) == len(slot.devices)
        assert len(slot.devices) in (0, asked[slot.model].tensor_parallel_size or len(slot.devices))
        assert slot.max_model_len <= asked[slot.model].window


@settings(deadline=None)  # the machine may be busy
@given(asked(), machines, fits)
def test_plan_never_takes_more_than_is_free_and_places_everybody(
    wanted: Asked, hardware: Hardware, fit: list[Step]
) -> None:
    needs, presets = wanted
    try:
        made = plan(needs, presets, hardware, fit)
    except PlacementError:
        return

    check(made, list(needs), hardware)
    placed = {slot.model for slot in made.slots}
    for name, preset in presets.items():
        judge = made.judges.get(name, preset.judge)
        assert placed >= {*preset.members} | ({judge} if judge else set())
        # one group serves the whole panel, and one the judge
        assert any(set(preset.members) <= set(group) for group in made.groups)
        assert judge is None or any(judge in group for group in made.groups)
    assert placed == {model for group in made.groups for model in group}


@settings(deadline=None)  # the machine may be busy
@given(asked(), machines, fits)
def test_only_what_fit_permits_is_given_up(
    wanted: Asked, hardware: Hardware, fit: list[Step]
) -> None:
    needs, presets = wanted
    try:
        made = plan(needs, presets, hardware, fit)
    except PlacementError:
        return

    sizes = {need.name: (need.max_model_len, need.max_num_seqs) for need in needs}
    cut = [s for s in made.slots if (s.max_model_len, s.max_num_seqs) < sizes[s.model]]
    assert "phases" in fit or len(made.groups) == 1
    assert "share_judge" in fit or not made.judges
    assert "context" in fit or not cut


@settings(deadline=None)  # the machine may be busy
@given(asked(), machines, fits)
def test_order_of_models_and_presets_does_not_matter(
    wanted: Asked, hardware: Hardware, fit: list[Step]
) -> None:
    needs, presets = wanted

    def outcome(turned: bool) -> object:
        given = dict(reversed(list(presets.items()))) if turned else presets
        try:
            return plan(needs[::-1] if turned else needs, given, hardware, fit)
        except PlacementError as error:
            return str(error)

    assert outcome(turned=True) == outcome(turned=False)
