"""``localfusion models``: data on stdout, progress on stderr, errors typed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from localfusion.cli import app
from localfusion.config import Config
from localfusion.errors import FusionError, ModelNotFoundError, WeightsError
from localfusion.weights import find_status, resolve
from tests.weights.places import write_config, write_model


def run(config: Config, *arguments: str, answer: str | None = None) -> Result:
    command = ["--config", str(config.file), "models", *arguments]
    result = CliRunner().invoke(app, command, input=answer)
    if isinstance(result.exception, FusionError):
        raise result.exception
    return result


def test_list_says_state_and_presets(gguf: Config) -> None:
    before = run(gguf, "list").stdout
    run(gguf, "pull", "m")
    after = run(gguf, "list").stdout

    assert before.split()[-2:] == ["missing", "p"]
    assert after.split()[-2:] == ["verified", "p"]


def test_list_as_json_is_one_document(gguf: Config) -> None:
    (status,) = json.loads(run(gguf, "list", "--json").stdout)

    assert (status["name"], status["state"], status["presets"]) == ("m", "missing", ["p"])


def test_pull_without_names_pulls_the_default_preset(gguf: Config) -> None:
    result = run(gguf, "pull")

    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("m: done")
    assert find_status(gguf, "m").state == "verified"


def test_verify_prints_the_digest(gguf: Config) -> None:
    run(gguf, "pull", "m")
    digest = resolve(gguf, "m").manifest.digest

    assert run(gguf, "verify").stdout.split() == ["ok", "m", "3", "files", digest]
    assert json.loads(run(gguf, "verify", "--json").stdout) == {"m": digest}


def test_verify_names_the_first_wrong_file(gguf: Config) -> None:
    run(gguf, "pull", "m")
    (resolve(gguf, "m").path / "tokenizer.json").write_text("[]")

    with pytest.raises(WeightsError, match=r"tokenizer\.json differs") as caught:
        run(gguf, "verify", "m")

    assert caught.value.exit_code == 2


def test_rm_asks_first(gguf: Config) -> None:
    run(gguf, "pull", "m")

    assert run(gguf, "rm", "m", answer="n\n").exit_code == 1
    assert find_status(gguf, "m").state == "verified"
    assert run(gguf, "rm", "m", answer="y\n").exit_code == 0
    assert find_status(gguf, "m").state == "missing"


def test_rm_with_yes_does_not_ask(gguf: Config) -> None:
    run(gguf, "pull", "m")

    run(gguf, "rm", "m", "--yes")

    assert find_status(gguf, "m").state == "missing"


def test_all_leaves_out_models_of_other_engines(tmp_path: Path) -> None:
    write_model(tmp_path / "mine")
    models = {"m": {"source": {"path": "mine"}}, "far": {"engine": "sim"}}
    config = write_config(tmp_path, models)

    run(config, "pull", "--all")

    assert [find_status(config, name).state for name in models] == ["verified", "none"]


def test_preset_without_weights_is_refused(tmp_path: Path) -> None:
    config = write_config(tmp_path, {"far": {"engine": "sim"}})

    with pytest.raises(WeightsError, match="no model with weights"):
        run(config, "pull")


def test_unknown_model_is_an_error_of_the_arguments(gguf: Config) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        run(gguf, "pull", "nn")

    assert caught.value.exit_code == 2


def test_names_and_preset_together_are_refused(gguf: Config) -> None:
    assert run(gguf, "pull", "m", "--preset", "p").exit_code == 2
