"""``localfusion plan``: what it prints for real and for imagined hardware."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from localfusion.cli import app
from tests.cli.conftest import Place

SHIPPED = Path(__file__).parent.parent.parent / "models.yaml"


@pytest.fixture
def run(tmp_path: Path) -> "Run":
    return Run(tmp_path)


class Run:
    """Plans the shipped presets on a machine where nothing has been fetched."""

    def __init__(self, cache: Path) -> None:
        self._env = {"LOCALFUSION_CACHE": str(cache), "COLUMNS": "80"}

    def __call__(self, *arguments: str) -> str:
        done = CliRunner().invoke(
            app, ["--config", str(SHIPPED), "plan", *arguments], env=self._env
        )
        if done.exception is not None:
            raise done.exception
        return done.output


def test_imagined_cards_get_a_table_a_picture_and_the_source_of_the_figures(run: Run) -> None:
    printed = run("--gpus", "2x80GB", "--preset", "quality")

    head, first, *_ = printed.splitlines()[0:3]
    assert head.startswith("plan for quality")
    assert first.split()[:3] == ["engine", "role", "device"]
    assert "qwen3.6-27b *" in printed
    assert "gpu1" in printed
    assert "AAAA" in printed
    assert "* not on disk: figures from the catalogue" in printed


def test_imagined_cards_get_their_own_default_preset(run: Run) -> None:
    assert run("--gpus", "1x24GB").startswith("plan for fast")


def test_one_engine_has_one_line_however_many_roles_it_has(run: Run) -> None:
    lines = run("--gpus", "1x24GB").splitlines()

    assert [line for line in lines if "member, judge" in line and "qwen3-4b" in line]
    assert sum(line.lstrip().startswith("qwen3-4b") for line in lines) == 1


def test_json_says_the_same(run: Run) -> None:
    made = json.loads(run("--gpus", "2x80GB+1x24GB", "--preset", "quality", "--json"))

    assert made["presets"] == ["quality"]
    assert [gpu["total_bytes"] for gpu in made["hardware"]["gpus"]][-1] == 24 * 10**9
    assert len(made["slots"]) == 4
    assert made["slots"][0]["start"] == 1
    assert len(made["groups"]) == 1
    for device in made["devices"]:
        assert all(share["end"] <= device["free_bytes"] for share in device["shares"])


def test_what_was_given_up_is_said(run: Run) -> None:
    assert "requests at once, not 8" in run("--gpus", "1x20GB").partition("note: ")[2]


def test_model_that_the_policy_forbids_gets_no_share_and_is_named(place: Place) -> None:
    place.write(policy={"forbid_models": ["b"]})

    done = place.run("plan", "--json")

    planned = json.loads(done.stdout)
    assert {slot["model"] for slot in planned["slots"]} == {"a", "judge"}
    assert "b is gone (policy.forbid_models names it)" in planned["notes"][0]


def test_preset_of_forbidden_models_alone_is_no_plan(place: Place) -> None:
    place.write(policy={"forbid_models": ["a", "b", "judge"]})

    done = place.run("plan")

    assert done.returncode == 2
    assert "policy.forbid_models" in done.stderr


def test_impossible_plan_says_what_would_fit_and_exits_2(place: Place) -> None:
    done = place.run("--config", str(SHIPPED), "plan", "--preset", "quality", "--gpus", "1x24GB")

    assert done.returncode == 2
    assert "What would fit:" in done.stderr
    assert "Traceback" not in done.stderr


def test_real_machine_is_planned_without_loading_anything(place: Place) -> None:
    done = place.run("plan")

    assert done.returncode == 0, done.stderr
    assert "plan for demo" in done.stdout
    assert " *" not in done.stdout
    assert place.left_behind() == []
