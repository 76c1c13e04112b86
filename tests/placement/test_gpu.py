"""On GPUs: which card, how many cards, and what of each."""

from dataclasses import replace

import pytest

from localfusion.errors import PlacementError
from localfusion.hardware import imagine
from localfusion.placement import GIB, plan
from tests.placement.asking import gpus, members, need


def test_largest_engine_goes_to_the_emptiest_card() -> None:
    made = plan([need("a", 10), need("b", 20)], members("a", "b"), gpus(40, 60))

    assert made["b"].devices == ("gpu1",)
    assert made["a"].devices == ("gpu0",)


def test_member_prefers_a_card_of_its_own_to_one_with_more_room() -> None:
    made = plan([need("a", 20), need("b", 10)], members("a", "b"), gpus(80, 40))

    assert made["b"].devices == ("gpu1",)


def test_members_prefer_cards_of_their_own_and_the_judge_the_one_with_most_room() -> None:
    needs = [need("a", 20), need("b", 10), need("j", 5)]

    made = plan(needs, members("a", "b", judge="j"), gpus(80, 80))

    assert made["a"].devices != made["b"].devices
    assert made["j"].devices == made["b"].devices


def test_small_members_share_a_card_when_the_judge_needs_the_other_whole() -> None:
    needs = [need("a", 5), need("b", 5), need("j", 70)]

    made = plan(needs, members("a", "b", judge="j"), gpus(80, 80))

    assert made["a"].devices == made["b"].devices != made["j"].devices
    assert len(made["j"].devices) == 1
    assert made.notes == ()


def test_model_that_is_too_large_for_a_card_is_spread_and_the_plan_says_so() -> None:
    made = plan([need("a", 100)], members("a"), gpus(80, 80, 80))

    assert made["a"].devices == ("gpu0", "gpu1")
    assert made.notes == ("a is spread over 2 GPUs (tensor parallel)",)


def test_engine_is_spread_over_cards_of_one_kind_only() -> None:
    made = plan([need("a", 100)], members("a"), gpus(80, 96, 80))

    assert made["a"].devices == ("gpu0", "gpu2")


def test_model_is_not_spread_over_more_ranks_than_it_has_heads() -> None:
    with pytest.raises(PlacementError, match="a 9"):  # 8 KV heads: 16 ranks are never tried
        plan([need("a", 900)], members("a"), gpus(*[80] * 16))


def test_tensor_parallel_engine_that_was_asked_for_is_spread_evenly() -> None:
    made = plan([need("a", 100, tensor_parallel_size=2)], members("a"), gpus(80, 80))

    assert made["a"].devices == ("gpu0", "gpu1")
    assert made["a"].device_bytes <= 80 * GIB
    assert made.notes == ()


def test_free_memory_counts_and_not_the_size_of_the_card() -> None:
    card = imagine("1x80gb").gpus[0]
    busy = imagine("1x80gb+1x24gb")
    cards = (replace(card, free_bytes=GIB), busy.gpus[1])

    made = plan([need("a", 10)], members("a"), replace(busy, gpus=cards))

    assert made["a"].devices == ("gpu1",)


def test_start_check_leaves_room_for_the_context_of_the_process() -> None:
    slot = plan([need("a", 10)], members("a"), gpus(24))["a"]

    assert slot.weight_bytes + slot.kv_cache_bytes < slot.gpu_memory_utilization * 24 * GIB
    assert slot.gpu_memory_utilization * 24 * GIB <= slot.bytes - 0.8 * GIB


def test_eager_engine_and_narrow_cache_take_less() -> None:
    whole, eager, narrow = (
        plan([asked], members("a"), gpus(80))["a"].bytes
        for asked in (
            need("a", 10),
            need("a", 10, is_eager=True),
            need("a", 10, kv_element_bytes=1),
        )
    )

    assert eager < whole
    assert narrow < whole


def test_engines_of_one_card_start_one_after_the_other_and_cards_side_by_side() -> None:
    needs = [need("a", 30), need("b", 20), need("c", 10), need("d", 1)]

    made = plan(needs, members(*"abcd"), gpus(80, 80))

    assert made.start_places() == {"a": 1, "b": 1, "c": 2, "d": 2}


def test_spread_engine_starts_when_all_its_cards_are_idle() -> None:
    needs = [need("a", 100), need("b", 10), need("c", 5)]

    made = plan(needs, members(*"abc"), gpus(80, 80))

    assert made.start_places() == {"a": 1, "b": 2, "c": 2}


def test_imagined_cards_of_several_kinds() -> None:
    cards = imagine("2x80GB + 1x24gb").gpus

    assert [(gpu.id, gpu.total_bytes) for gpu in cards] == [
        ("gpu0", 80 * 10**9),
        ("gpu1", 80 * 10**9),
        ("gpu2", 24 * 10**9),
    ]


def test_imagined_machine_has_main_memory_for_all_that_sleeps() -> None:
    assert imagine("8x288gb").cpu.free_bytes >= 8 * 288 * 10**9


@pytest.mark.parametrize(
    "text",
    ["", "2", "x80", "2x0GB", "-1x80GB", "2x80TB", "99x80GB", "1x24GB+", "60x8gb+5x8gb", "²x80"],
)
def test_imagined_cards_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="as in 2x80GB"):
        imagine(text)
