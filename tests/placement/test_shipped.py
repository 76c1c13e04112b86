"""The shipped presets on the hardware that they name, by the figures of their catalogue."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from localfusion.config import Config, load
from localfusion.errors import PlacementError
from localfusion.hardware import Cpu, Hardware, imagine
from localfusion.placement import GIB, Plan
from localfusion.system import make_plan

ROOT = Path(__file__).parent.parent.parent
SHIPPED = ROOT / "models.yaml"
NAMED = [("fast", "1x24GB"), ("budget", "1x80GB"), ("quality", "2x80GB")]


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Config:
    """Load models.yaml as on a machine where nothing has been fetched."""
    monkeypatch.setenv("LOCALFUSION_CACHE", str(tmp_path))
    return load(SHIPPED)


def planned(config: Config, preset: str, cards: str) -> Plan:
    return make_plan(config, {preset: config.settings.presets[preset]}, imagine(cards))


@pytest.mark.parametrize(("preset", "cards"), NAMED)
def test_preset_fits_the_cards_that_it_names_without_giving_anything_up(
    shipped: Config, preset: str, cards: str
) -> None:
    made = planned(shipped, preset, cards)

    assert {slot.model for slot in made.slots} == set(shipped.settings.presets[preset].models)
    assert made.notes == ()
    assert len(made.groups) == 1
    assert not any(slot.is_on_disk for slot in made.slots)


@pytest.mark.parametrize("preset", ["fast", "budget", "quality"])
def test_eight_large_cards_give_every_member_one_of_its_own(shipped: Config, preset: str) -> None:
    made = planned(shipped, preset, "8x80GB")

    used = [id for slot in made.slots for id in slot.devices]
    assert len(used) == len(set(used)) == len(made.slots)
    assert made.notes == ()


@pytest.mark.parametrize("preset", ["budget", "quality"])
def test_too_small_a_card_is_refused_with_cards_that_do(shipped: Config, preset: str) -> None:
    with pytest.raises(PlacementError) as caught:
        planned(shipped, preset, "1x24GB")

    cards = re.findall(r"\d+x\d+GB", str(caught.value))
    assert cards
    for enough in cards:
        planned(shipped, preset, enough)


def test_comments_state_the_slots_that_the_planner_computes(shipped: Config) -> None:
    stated = re.findall(
        r"(\S+) \(([\d.]+) \+ ([\d.]+) \+ ([\d.]+)\) x 1\.04 = ([\d.]+)", SHIPPED.read_text()
    )
    slots = {slot.model: slot for named in NAMED for slot in planned(shipped, *named).slots}

    assert {model for model, *_ in stated} == set(slots)
    for model, *figures in stated:
        slot = slots[model]
        rest = slot.bytes / 1.04 - slot.weight_bytes - slot.kv_cache_bytes
        parts = (slot.weight_bytes, slot.kv_cache_bytes, rest, slot.bytes)
        assert figures == [
            f"{part / GIB:.{digits}f}" for part, digits in zip(parts, (2, 2, 2, 1), strict=True)
        ]


@pytest.mark.parametrize(("preset", "cards"), NAMED)
def test_comments_and_gpu_page_state_the_totals_of_each_card(
    shipped: Config, preset: str, cards: str
) -> None:
    page = (ROOT / "docs" / "gpu.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith(f"| `{preset}` |"))
    made = planned(shipped, preset, cards)

    totals = [f"{made.shares(device, made.groups[0])[-1].end / GIB:.1f}" for device in made.devices]
    free = f"{made.hardware.gpus[0].free_bytes / GIB:.1f}"
    assert f"{' and '.join(totals)} of {free}" in row
    assert re.search(rf"# .*{' and '.join(totals)} GiB of {free}", SHIPPED.read_text())


@pytest.mark.parametrize(("name", "gib", "engines"), [("demo", 8, 2), ("demo-large", 18, 3)])
def test_demo_presets_fit_the_memory_that_they_name(
    shipped: Config, name: str, gib: int, engines: int
) -> None:
    machine = Hardware(Cpu(cores=(0, 1), free_bytes=gib * GIB, has_bf16=False))
    preset = shipped.settings.presets[name]

    made = make_plan(shipped, {name: preset}, machine)

    assert len(made.slots) == engines
    assert f"{gib} GiB of free memory" in preset.description
    assert (made.judges, len(made.groups)) == ({}, 1)
    assert {slot.max_model_len for slot in made.slots} == {4096}


@pytest.mark.parametrize("name", ["demo", "demo-large"])
@pytest.mark.parametrize("has_bf16", [True, False])
def test_comments_state_what_the_demo_presets_take(
    shipped: Config, name: str, has_bf16: bool
) -> None:
    machine = Hardware(Cpu(cores=(0, 1), free_bytes=100 * GIB, has_bf16=has_bf16))

    made = make_plan(shipped, {name: shipped.settings.presets[name]}, machine)

    total = sum(slot.bytes for slot in made.slots) / GIB
    comment = SHIPPED.read_text().split(f"\n  {name}:\n")[0].rsplit("\n\n", 1)[1]
    assert f"{total:.1f} GiB" in comment


def test_remote_models_take_no_memory_here(shipped: Config) -> None:
    settings = shipped.settings
    remote = settings.models["phi-4"].model_copy(update={"engine": "openai", "source": None})
    models = {**settings.models, "qwen3.6-27b": remote, "phi-4": remote}
    changed = replace(shipped, settings=settings.model_copy(update={"models": models}))

    made = planned(changed, "quality", "1x80GB")

    assert {slot.model for slot in made.slots} == {"granite-4.1-30b", "gemma-4-26b-a4b"}
    assert made.judges == {}
