"""Who gets what: plans never promise more than is free, and a refusal says what would fit."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.errors import PlacementError
from localfusion.hardware import Cpu, Gpu, Hardware, imagine
from localfusion.placement import BLOCK, GIB, ModelNeed, plan

SMALL_CPU = Hardware(Cpu(cores=(0, 1), free_bytes=22 * GIB, has_bf16=False))
BIG_CPU = Hardware(Cpu(cores=tuple(range(8)), free_bytes=200 * GIB, has_bf16=True))


def need(name: str, gib: float, *roles: str, **fields: int) -> ModelNeed:
    return ModelNeed(
        name,
        roles or ("member",),  # type: ignore[arg-type]  # literals in the tests
        int(gib * GIB),
        kv_bytes_per_token=100_000,
        window=32_768,
        **fields,  # type: ignore[arg-type]  # ints
    )


def gpus(*free: float) -> Hardware:
    cards = (Gpu(f"gpu{i}", "card", int(f * GIB), int(f * GIB)) for i, f in enumerate(free))
    return Hardware(BIG_CPU.cpu, tuple(cards))


def test_members_share_the_cores_by_weight_and_the_judge_has_all() -> None:
    made = plan([need("a", 1), need("b", 3), need("j", 5, "judge")], BIG_CPU)

    assert len(made["a"].cores) == 2
    assert len(made["b"].cores) == 6
    assert set(made["a"].cores).isdisjoint(made["b"].cores)
    assert made["j"].cores == BIG_CPU.cpu.cores


def test_light_member_yields_to_a_heavier_one_that_judges_as_well() -> None:
    made = plan([need("a", 1), need("b", 3, "member", "judge"), need("c", 5)], BIG_CPU)

    assert {slot.model: slot.niceness > 0 for slot in made.slots} == {
        "a": True,
        "b": False,
        "c": False,
    }
    assert made["b"].cores == BIG_CPU.cpu.cores


def test_more_members_than_cores_share_them_and_the_plan_says_so() -> None:
    made = plan([need(name, 1) for name in "abc"], SMALL_CPU)

    assert all(len(slot.cores) == 1 for slot in made.slots)
    assert any("3 panel engines share 2 cores" in note for note in made.notes)


@pytest.mark.parametrize(
    ("hardware", "dtype", "factor"), [(SMALL_CPU, "float32", 2), (BIG_CPU, "bfloat16", 1)]
)
def test_dtype_follows_the_processor(hardware: Hardware, dtype: str, factor: int) -> None:
    slot = plan([need("a", 1)], hardware)["a"]

    assert slot.dtype == dtype
    assert slot.weight_bytes == factor * GIB


def test_kv_cache_holds_at_least_one_full_request_and_a_block() -> None:
    slot = plan([need("a", 1, max_model_len=4096, max_num_seqs=1)], BIG_CPU)["a"]

    assert slot.kv_cache_bytes == (4096 + BLOCK) * 100_000


def test_engines_start_largest_first_whatever_their_order() -> None:
    needs = [need("a", 1), need("b", 3), need("c", 2)]

    orders = [[s.model for s in plan(given, BIG_CPU).slots] for given in (needs, needs[::-1])]

    assert orders == [["b", "c", "a"]] * 2


def test_largest_engine_goes_to_the_emptiest_card() -> None:
    made = plan([need("a", 10), need("b", 20)], gpus(40, 60))

    assert made["b"].devices == ("gpu1",)
    assert made["a"].devices == ("gpu0",)


def test_tensor_parallel_engine_is_spread_evenly() -> None:
    made = plan([need("a", 100, tensor_parallel_size=2)], gpus(80, 80))

    assert made["a"].devices == ("gpu0", "gpu1")
    assert made["a"].bytes < 2 * 80 * GIB


@pytest.mark.parametrize(
    ("needs", "hardware", "message"),
    [
        ([need("a", 20)], SMALL_CPU, "more memory than is free.*Leave out a"),
        ([need("a", 100)], gpus(80), "short by .* a GPU with .* a quantized a"),
        ([need("a", 50), need("b", 50)], gpus(80), "beside a: short by"),
        ([need("a", 1, tensor_parallel_size=2)], gpus(80), "asks for tensor_parallel_size 2"),
        ([need("a", 1, max_model_len=40_000)], BIG_CPU, "max_model_len 40000 is more than"),
    ],
)
def test_refusal_says_what_would_fit(
    needs: list[ModelNeed], hardware: Hardware, message: str
) -> None:
    with pytest.raises(PlacementError, match=message):
        plan(needs, hardware)


needs_of_any_size = st.lists(
    st.builds(
        ModelNeed,
        st.uuids().map(str),
        st.just(("member",)),
        st.integers(1, 200 * GIB),
        st.integers(1, 500_000),
        st.integers(8192, 100_000),
        max_model_len=st.integers(256, 8192),
        max_num_seqs=st.integers(1, 64),
        tensor_parallel_size=st.sampled_from([1, 1, 2]),
    ),
    min_size=1,
    max_size=6,
)


@given(
    needs_of_any_size, st.sampled_from([SMALL_CPU, BIG_CPU, gpus(24), gpus(80, 80), gpus(24, 80)])
)
def test_plan_never_takes_more_than_is_free(needs: list[ModelNeed], hardware: Hardware) -> None:
    try:
        made = plan(needs, hardware)
    except PlacementError:
        return

    assert {slot.model for slot in made.slots} == {need.name for need in needs}
    if not hardware.gpus:
        assert sum(slot.bytes for slot in made.slots) <= hardware.cpu.free_bytes
    for gpu in hardware.gpus:
        mine = [slot for slot in made.slots if gpu.id in slot.devices]
        assert sum(slot.bytes / len(slot.devices) for slot in mine) <= gpu.free_bytes


@given(st.floats(90, 500), st.floats(1, 80))
def test_a_card_larger_by_the_shortfall_is_enough(size: float, card: float) -> None:
    with pytest.raises(PlacementError) as caught:
        plan([need("a", size)], gpus(card))

    short = float(re.search(r"a GPU with ([\d.]+) GiB more", str(caught.value))[1])  # type: ignore[index]
    plan([need("a", size)], gpus(card + short + 0.1))


def test_imagined_cards() -> None:
    assert [gpu.total_bytes for gpu in imagine("2x80GB").gpus] == [80 * 10**9] * 2


@pytest.mark.parametrize("text", ["", "2", "x80", "2x0GB", "-1x80GB", "2x80TB", "99x80GB"])
def test_imagined_cards_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="as in 2x80GB"):
        imagine(text)
