"""On a machine without GPU: who gets which cores, and what one memory holds."""

import pytest

from localfusion.errors import PlacementError
from localfusion.hardware import Hardware
from localfusion.placement import GIB, plan
from tests.placement.asking import BIG_CPU, SMALL_CPU, members, need


def test_members_share_the_cores_by_weight_and_the_judge_has_all() -> None:
    needs = [need("a", 1), need("b", 3), need("j", 5)]

    made = plan(needs, members("a", "b", judge="j"), BIG_CPU)

    assert len(made["a"].cores) == 2
    assert len(made["b"].cores) == 6
    assert set(made["a"].cores).isdisjoint(made["b"].cores)
    assert made["j"].cores == BIG_CPU.cpu.cores


def test_light_member_yields_to_a_heavier_one_that_judges_as_well() -> None:
    needs = [need("a", 1), need("b", 3), need("c", 5)]

    made = plan(needs, members("a", "b", "c", judge="b"), BIG_CPU)

    assert [slot.model for slot in made.slots if slot.niceness > 0] == ["a"]
    assert made["b"].cores == BIG_CPU.cpu.cores


def test_more_members_than_cores_share_them_and_the_plan_says_so() -> None:
    made = plan([need(name, 1) for name in "abc"], members("a", "b", "c"), SMALL_CPU)

    assert all(len(slot.cores) == 1 for slot in made.slots)
    assert any("3 panel engines share 2 cores" in note for note in made.notes)


@pytest.mark.parametrize(
    ("hardware", "dtype", "factor"), [(SMALL_CPU, "float32", 2), (BIG_CPU, "bfloat16", 1)]
)
def test_dtype_follows_the_processor(hardware: Hardware, dtype: str, factor: int) -> None:
    slot = plan([need("a", 1)], members("a"), hardware)["a"]

    assert slot.dtype == dtype
    assert slot.weight_bytes == factor * GIB


def test_kv_cache_is_as_wide_as_the_processor_computes() -> None:
    bf16, float32 = (
        plan([need("a", 1)], members("a"), hardware)["a"] for hardware in (BIG_CPU, SMALL_CPU)
    )

    assert float32.kv_cache_bytes == 2 * bf16.kv_cache_bytes


def test_kv_cache_holds_a_quarter_of_all_requests_and_at_least_one() -> None:
    sizes = [
        plan([need("a", 1, max_num_seqs=seqs)], members("a"), BIG_CPU)["a"].kv_cache_bytes
        for seqs in (1, 4, 8)
    ]

    assert 4096 * 102_400 < sizes[0] == sizes[1] < 1.02 * 4096 * 102_400
    assert sizes[2] > 1.98 * sizes[1]


def test_engines_start_largest_first_whatever_their_order() -> None:
    needs = [need("a", 1), need("b", 3), need("c", 2)]

    orders = [
        [slot.model for slot in plan(given, members("a", "b", "c"), BIG_CPU).slots]
        for given in (needs, needs[::-1])
    ]

    assert orders == [["b", "c", "a"]] * 2


def test_judge_and_panel_take_turns_on_the_memory_and_leave_nothing_there() -> None:
    needs = [need("a", 3), need("b", 3), need("j", 6)]

    made = plan(needs, members("a", "b", judge="j"), SMALL_CPU, ["phases"])

    assert made.groups == (("a", "b"), ("j",))
    assert all(slot.sleeps for slot in made.slots)
    assert [share.model for share in made.shares("memory", made.groups[1])] == ["j"]
    assert any("each turn pays" in note for note in made.notes)


def test_without_phases_the_same_is_refused() -> None:
    needs = [need("a", 3), need("b", 3), need("j", 6)]

    with pytest.raises(PlacementError, match="share_judge or phases added to `fit`"):
        plan(needs, members("a", "b", judge="j"), SMALL_CPU, [])
