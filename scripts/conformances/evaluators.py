"""Evaluation tools and the OpenAPI document: inspect_ai, lm-eval, schemathesis."""

import json
from collections.abc import Sequence

from conformances.environment import Environment
from conformances.suite import JUNIT, KEY, BrokenSuiteError, Cases, Finished, Place, Suite

_INSPECT = Environment("inspect-ai", ("inspect-ai==0.3.285", "openai==3.54.0"))
_LM_EVAL = Environment("lm-eval", ("lm-eval[api]==0.4.13",))
_SCHEMATHESIS = Environment("schemathesis", ("schemathesis==4.32.5",))

_OPTIONS = ("--display", "plain", "--log-format", "json", "--log-dir", "logs")


def _inspect(place: Place) -> Sequence[str]:
    variables = (
        "env",
        f"LOCALFUSION_API_KEY={KEY}",
        f"LOCALFUSION_BASE_URL={place.base}",
        f"INSPECT_TRACE_FILE={place.folder / 'trace.log'}",
    )
    model = f"openai-api/localfusion/{place.model}"
    words = (_INSPECT.program("inspect"), "eval", "task.py", "--model", model)
    return (*variables, *words, *_OPTIONS)


def _inspect_responses(place: Place) -> Sequence[str]:
    return (*_inspect(place), "-M", "responses_api=true")


def _read_inspect(finished: Finished) -> Cases:
    logs = sorted((finished.place.folder / "logs").glob("*.json"))
    if not logs:
        raise BrokenSuiteError(finished.tail())
    log = json.loads(logs[-1].read_text())
    if log["status"] != "success":
        return {"task": log.get("error", {}).get("message", log["status"])[:300]}
    accuracy = log["results"]["scores"][0]["metrics"]["accuracy"]["value"]
    usage: dict[str, object] = next(iter(log["stats"]["model_usage"].values()), {})
    return {
        "task": None,
        "accuracy is 1": None if accuracy == 1 else f"{accuracy}",
        "usage is read": None if usage.get("output_tokens") else f"{usage}",
    }


def _lm_eval(place: Place) -> Sequence[str]:
    # By its own name alone it would look on a hub for the tokenizer of the model.
    arguments = {
        "model": place.model,
        "base_url": f"{place.base}/chat/completions",
        "num_concurrent": "4",
        "tokenized_requests": "False",
    }
    given = ",".join(f"{name}={value}" for name, value in arguments.items())
    words = ("run", "--model", "local-chat-completions", "--model_args", given)
    task = ("--apply_chat_template", "--include_path", "lm_eval", "--tasks", "tiny")
    return (_LM_EVAL.program("lm_eval"), *words, *task, "--output_path", "results")


def _read_lm_eval(finished: Finished) -> Cases:
    files = sorted((finished.place.folder / "results").rglob("results_*.json"))
    if not files:
        raise BrokenSuiteError(finished.tail())
    scores = json.loads(files[-1].read_text())["results"]["tiny"]
    found = {name: value for name, value in scores.items() if name.startswith("exact_match,")}
    return {name: None if value == 1 else f"{value}" for name, value in found.items()}


def _schemathesis(document: str, place: Place, *options: str) -> Sequence[str]:
    report = ("--report", "junit", "--report-junit-path", JUNIT, "--no-color")
    bearer = ("--header", f"Authorization: Bearer {KEY}")
    words = (_SCHEMATHESIS.program("schemathesis"), "run", document, *bearer)
    # The same requests at each run: a table that changes by chance tells nothing.
    return (*words, "--seed", "1", "--generation-deterministic", *report, *options)


def _own_document(place: Place) -> Sequence[str]:
    phases = ("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "50")
    # Much is refused by rules that a schema does not hold: what belongs together, what exists.
    checks = ("--exclude-checks", "positive_data_acceptance")
    return _schemathesis(f"{place.server.url}/openapi.json", place, *phases, *checks)


SUITES = (
    Suite("schemathesis", _SCHEMATHESIS, _own_document),
    Suite("inspect-ai chat", _INSPECT, _inspect, _read_inspect, files=("task.py",)),
    Suite(
        "inspect-ai responses",
        _INSPECT,
        _inspect_responses,
        _read_inspect,
        files=("task.py",),
        route="/v1/responses",
    ),
    Suite(
        "lm-eval",
        _LM_EVAL,
        _lm_eval,
        _read_lm_eval,
        files=("lm_eval",),
        variables={"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
    ),
)
