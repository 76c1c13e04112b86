"""A refusal says what is missing and what would fit; whatever it names is enough."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from localfusion.errors import PlacementError
from localfusion.hardware import Hardware, imagine
from localfusion.memory import weight_bytes
from localfusion.placement import ALL_STEPS, GIB, ModelNeed, PresetNeed, Step, plan
from tests.placement.asking import (
    BIG_CPU,
    SMALL_CPU,
    Asked,
    asked,
    fits,
    gpus,
    machines,
    members,
    more,
    need,
)

BITS = {"FP8": 8.08, "4 bit": 4.16}


@pytest.mark.parametrize(
    ("needs", "hardware", "words"),
    [
        ([need("a", 20)], SMALL_CPU, ["GiB more memory than is free", "GiB of free memory"]),
        ([need("a", 100)], gpus(80), ["on each GPU (80.0 GiB free)", "quantized", "1x141GB"]),
        ([need("a", 50), need("b", 50)], gpus(80), ["the same without b", "2x80GB"]),
        (
            [need("a", 1, tensor_parallel_size=2)],
            gpus(80),
            ["a asks for tensor_parallel_size 2", "no more than 1", "a without tensor_parallel"],
        ),
    ],
)
def test_refusal_names_what_is_missing_and_what_would_fit(
    needs: list[ModelNeed], hardware: Hardware, words: list[str]
) -> None:
    with pytest.raises(PlacementError) as caught:
        plan(needs, members(*(need.name for need in needs)), hardware)

    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_context_beyond_what_the_model_was_made_for_is_refused() -> None:
    with pytest.raises(PlacementError, match="a: max_model_len 40000 is more than the 32768"):
        plan([need("a", 1, max_model_len=40_000)], members("a"), BIG_CPU)


def test_steps_that_would_help_together_are_named_together() -> None:
    needs = [need("a", 12, max_model_len=32_768), need("j", 12, max_model_len=32_768)]

    with pytest.raises(PlacementError, match=r"context and phases|share_judge and context"):
        plan(needs, members("a", judge="j"), gpus(16), [])


Question = tuple[Sequence[ModelNeed], dict[str, PresetNeed], Hardware, Sequence[Step]]


def mended(message: str, question: Question) -> Iterator[Question]:
    """Apply each remedy that a refusal names, read from its words alone."""
    needs, presets, hardware, fit = question
    by_name = {need.name: need for need in needs}
    for remedy in message.partition("What would fit: ")[2].split("; "):
        if found := re.fullmatch(r"the same without (\w)", remedy):
            gone = found[1]
            kept = {
                name: replace(p, members=tuple(m for m in p.members if m != gone))
                for name, p in presets.items()
            }
            yield [n for n in needs if n.name != gone], kept, hardware, fit
        elif found := re.fullmatch(r"(\w(?:, \w)*) quantized to (.*?)(?: \(.*\))?", remedy):
            bits = BITS[found[2]]
            smaller = {name: quantized(by_name[name], bits) for name in found[1].split(", ")}
            yield list((by_name | smaller).values()), presets, hardware, fit
        elif found := re.fullmatch(r"(.*) added to `fit` in models.yaml", remedy):
            if " and " in found[1]:
                yield needs, presets, hardware, [*fit, *steps(found[1].split(" and "))]
            else:
                for step in steps(found[1].split(" or ")):
                    yield needs, presets, hardware, [*fit, step]
        elif found := re.fullmatch(r"(\w) without tensor_parallel_size", remedy):
            free = replace(by_name[found[1]], tensor_parallel_size=None)
            yield list((by_name | {free.name: free}).values()), presets, hardware, fit
        elif found := re.fullmatch(r"([\d.]+) GiB of free memory", remedy):
            free_bytes = int((float(found[1]) + 0.05) * GIB)  # the figure is rounded
            cpu = replace(hardware.cpu, free_bytes=free_bytes)
            yield needs, presets, replace(hardware, cpu=cpu), fit
        else:
            yield needs, presets, replace(hardware, gpus=imagine(remedy).gpus), fit


def steps(names: list[str]) -> list[Step]:
    return [step for step in ALL_STEPS if step in names]


def quantized(need: ModelNeed, bits: float) -> ModelNeed:
    shape = replace(need.shape, quantization="compressed-tensors")
    return replace(need, shape=shape, weight_bytes=weight_bytes(need.shape, bits))


@settings(deadline=None)  # the machine may be busy
@given(asked(), machines, fits)
def test_every_remedy_is_enough(wanted: Asked, hardware: Hardware, fit: list[Step]) -> None:
    needs, presets = wanted
    try:
        plan(needs, presets, hardware, fit)
    except PlacementError as error:
        message = str(error)
    else:
        return

    ways = list(mended(message, (needs, dict(presets), hardware, fit)))
    assert ways, message
    for way in ways:
        plan(*way)


@settings(deadline=None)  # the machine may be busy
@given(asked(), st.lists(st.floats(1, 100), min_size=1, max_size=2), fits)
def test_shortfall_is_enough_and_a_fifth_of_a_gib_less_is_not(
    wanted: Asked, free: list[float], fit: list[Step]
) -> None:
    needs, presets = wanted
    with pytest.raises(PlacementError) as caught:  # noqa: PT012  only what is refused counts
        plan(needs, presets, gpus(*free), fit)
        assume(False)
    found = re.search(r"need ([\d.]+) GiB more", str(caught.value))
    assume(found)
    assert found is not None

    short = float(found[1])
    plan(needs, presets, larger(gpus(*free), short), fit)
    if short > 0.2:
        with pytest.raises(PlacementError):
            plan(needs, presets, larger(gpus(*free), short - 0.2), fit)


def larger(hardware: Hardware, gib: float) -> Hardware:
    cards = (
        replace(g, total_bytes=g.total_bytes + extra, free_bytes=g.free_bytes + extra)
        for g in hardware.gpus
        for extra in [int((gib + 0.001) * GIB)]
    )
    return replace(hardware, gpus=tuple(cards))


@settings(deadline=None)  # the machine may be busy
@given(asked(), machines, fits, st.lists(st.integers(0, 60), min_size=1, max_size=3))
def test_more_memory_never_turns_a_plan_into_a_refusal(
    wanted: Asked, hardware: Hardware, fit: list[Step], extra: list[int]
) -> None:
    try:
        plan(*wanted, hardware, fit)
    except PlacementError:
        return

    plan(*wanted, more(hardware, *(gib * GIB for gib in extra)), fit)
