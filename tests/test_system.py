"""What would run: what a user should know of it before anything runs."""

from pathlib import Path

import pytest

from localfusion.config import Config, load
from localfusion.hardware import imagine
from localfusion.system import compose

MODELS = """
default_preset: {gpu: p, cpu: p}
models:
  a: {engine: sim, origin: "Acme, A-1"}
  b: {engine: sim, origin: "Acme, B-2"}
  c: {engine: sim, origin: "Others, C-3"}
  d: {engine: sim}
  e: {engine: sim}
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
