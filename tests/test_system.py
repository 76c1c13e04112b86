"""What would run: what a user should know of it before anything runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from localfusion.config import Config, load
from localfusion.engines import create_engine
from localfusion.engines.vllm import Places
from localfusion.errors import PlacementError, RequestError
from localfusion.hardware import Hardware, detect, imagine
from localfusion.system import compose
from tests.weights.places import LLAMA, write_config, write_model

HEAD = "default_preset: {gpu: p, cpu: p}\n"
MODELS = f"""{HEAD}models:
  a: {{engine: sim, origin: "Acme, A-1"}}
  b: {{engine: sim, origin: "Acme, B-2"}}
  c: {{engine: sim, origin: "Others, C-3"}}
  d: {{engine: sim}}
  e: {{engine: sim}}
"""


@pytest.mark.parametrize(
    ("panel", "judge", "said"),
    [
        ("[a, c]", "a", "judge a also is a member and grades its own drafts"),
        ("[b, c]", "a", "judge a and b are both of Acme"),
        ("[c, d]", "a", None),
        ("[d]", "e", None),
    ],
    ids=["itself", "kin", "strangers", "unknown makers"],
)
def test_judge_that_grades_its_kin_is_told(
    tmp_path: Path, panel: str, judge: str, said: str | None
) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(f"{MODELS}presets:\n  p: {{panel: {panel}, judge: {judge}}}\n")
    config: Config = load(file)

    notes = compose(config, ["p"], (), imagine("1x24GB"), sim=True).notes

    assert notes == (() if said is None else (f"preset p: {said}",))


def test_judge_for_which_there_is_no_room_is_no_engine(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_model(tmp_path / name, {**LLAMA, "max_position_embeddings": 4096})
    file = tmp_path / "models.yaml"
    file.write_text(f"""{HEAD}models:
  a: {{source: {{path: a}}, options: {{max_model_len: 1024}}}}
  b: {{source: {{path: b}}, options: {{max_model_len: 1024}}}}
presets:
  p: {{panel: [a], judge: b}}
""")
    loaded = load(file)
    cpu = detect().cpu
    room = compose(loaded, ["p"], (), Hardware(replace(cpu, free_bytes=1 << 40)), sim=False)
    need = sum(slot.bytes for slot in room.slots.values())

    tight = compose(loaded, ["p"], (), Hardware(replace(cpu, free_bytes=need // 4 * 3)), sim=False)

    assert tight.presets["p"].judge == "a"
    assert tight.models == ("a",)
    assert set(tight.slots) == set(tight.models)


def test_engine_without_a_share_of_the_hardware_is_refused_by_name(tmp_path: Path) -> None:
    weights = write_model(tmp_path / "a")
    config = write_config(tmp_path, {"a": {"source": {"path": "a"}}})
    places = Places(run=tmp_path, cache=tmp_path, logs=tmp_path)

    with pytest.raises(
        PlacementError, match=r"no room for a; stop what .*localfusion plan shows"
    ) as no:
        create_engine(config, "a", weights=weights, slot=None, places=places)

    assert no.value.exit_code == 2


POLICY = (
    MODELS
    + """presets:
  p: {panel: [a, c], judge: c}
policy: {forbid_models: [%s]}
"""
)


def test_forbidden_fallback_does_not_stand_in(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    text = (POLICY % "a, d").replace("a: {engine: sim", "a: {engine: sim, fallback: d")
    file.write_text(text)

    system = compose(load(file), ["p"], (), imagine("1x24GB"), sim=True)

    assert system.models == ("c",)


def test_forbidden_model_cannot_be_loaded_by_name(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(POLICY % "d")

    with pytest.raises(RequestError, match=r"d is not to be used \(policy.forbid_models"):
        compose(load(file), ["p"], ["d"], imagine("1x24GB"), sim=True)
