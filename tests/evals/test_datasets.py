"""Suites and readers of files: what they read, and where they say that a file is wrong."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localfusion.errors import ConfigError, DatasetError
from localfusion.evals.datasets.pairs import pairs_of
from localfusion.evals.suites import SUITES, load_suite

RUBRIC = {
    "id": "r",
    "sections": [{"criteria": [{"id": "c1", "weight": 5, "requirement": "Says why."}]}],
}
GOOD: Mapping[str, tuple[str, str]] = {
    "gsm8k": ("a.jsonl", json.dumps({"question": "2+2?", "answer": "<<2+2=4>>so\n#### 1,004"})),
    "mmlu": ("law_test.csv", '"What, now?",a,b,c,d,B\n'),
    "llmbar": (
        "a.json",
        json.dumps([{"input": "Q", "output_1": "x", "output_2": "y", "label": 2}]),
    ),
    "judgebench": (
        "a.jsonl",
        json.dumps(
            {
                "pair_id": "p",
                "source": "s",
                "question": "Q",
                "response_A": "x",
                "response_B": "y",
                "label": "B>A",
            }
        ),
    ),
    "humaneval": (
        "a.jsonl",
        json.dumps(
            {
                "task_id": "H/0",
                "prompt": "def f():\n",
                "entry_point": "f",
                "test": "def check(candidate):\n    assert candidate() == 1",
            }
        ),
    ),
    "bbh": (
        "dates.json",
        json.dumps({"canary": "c", "examples": [{"input": "Q", "target": "(B)"}]}),
    ),
    "draco": (
        "a.jsonl",
        json.dumps({"id": "d", "problem": "Q", "domain": "Law", "answer": json.dumps(RUBRIC)}),
    ),
}


def written(folder: Path, suite: str, text: str | None = None) -> Path:
    name, good = GOOD[suite]
    file = folder / name
    file.write_text(good if text is None else text)
    return file


@pytest.mark.parametrize("suite", GOOD)
def test_public_layouts_are_read(tmp_path: Path, suite: str) -> None:
    found = load_suite(suite, data=written(tmp_path, suite))
    gold = found.samples[0].gold

    assert len(found.samples) == (2 if suite in ("llmbar", "judgebench") else 1)
    assert found.source == GOOD[suite][0]
    expected = {"gsm8k": "1004", "mmlu": "B", "bbh": "(B)"}
    assert gold.get("answer", "").__class__ is str
    assert expected.get(suite, gold.get("answer")) == gold.get("answer")


def changed(suite: str, **fields: object) -> str:
    row = json.loads(GOOD[suite][1])
    return json.dumps({**row, **fields})


HEADER = "question,choice0,choice1,choice2,choice3,answer\n"


def weighing(weight: object) -> str:
    criterion = {"id": "c", "weight": weight, "requirement": "r"}
    return changed("draco", answer={"sections": [{"criteria": [criterion]}]})


@pytest.mark.parametrize(
    ("suite", "text", "says"),
    [
        ("gsm8k", "{", "a.jsonl:1: line: not JSON"),
        ("gsm8k", "[1]", "a.jsonl:1: line: list; expected an object"),
        ("gsm8k", changed("gsm8k", answer="four"), "a.jsonl:1: answer: no number behind ####"),
        ("gsm8k", changed("gsm8k", question=" "), "a.jsonl:1: question: empty"),
        ("gsm8k", changed("gsm8k", question=3), "a.jsonl:1: question: int; expected a text"),
        ("gsm8k", "\n\n", "a.jsonl:1: file: no samples"),
        ("gsm8k", GOOD["gsm8k"][1] + "\n{}", "a.jsonl:2: question: missing"),
        ("mmlu", "q,a,b,c,d\n", "law_test.csv:1: line: 5 columns"),
        ("mmlu", "q,a,b,c,d,E\n", "law_test.csv:1: answer: 'E'; expected A, B, C or D"),
        ("mmlu", HEADER + "q,a,b,c,d,7\n", "law_test.csv:2: answer: '7'; expected 0 to 3"),
        ("llmbar", "{}", "a.json:1: file: expected a list"),
        ("llmbar", '[{"input": "Q", "label": 3}]', "a.json:1: label: 3; expected 1 or 2"),
        ("judgebench", changed("judgebench", label="A"), "a.jsonl:1: label: 'A'"),
        ("humaneval", changed("humaneval", entry_point="f("), "a.jsonl:1: entry_point: 'f('"),
        ("humaneval", changed("humaneval", test="x"), "a.jsonl:1: test: no function check"),
        ("bbh", '{"examples": []}', "dates.json:1: examples: expected a list of at least 1"),
        ("bbh", '{"examples": [{"input": "Q"}]}', "dates.json:1: target: missing"),
        ("draco", changed("draco", answer="{"), "a.jsonl:1: line: not JSON"),
        ("draco", changed("draco", answer={"sections": []}), "a.jsonl:1: sections: expected"),
        ("draco", weighing(-1), "a.jsonl:1: answer.sections: the positive weights sum to 0"),
        ("draco", weighing("5"), "a.jsonl:1: criteria.weight: '5'"),
        ("draco", "\n".join([GOOD["draco"][1]] * 2), "a.jsonl:2: id: 'd' is line 1's already"),
    ],
)
def test_wrong_files_are_named_by_line_and_field(
    tmp_path: Path, suite: str, text: str, says: str
) -> None:
    with pytest.raises(DatasetError) as error:
        load_suite(suite, data=written(tmp_path, suite, text))

    assert says in str(error.value)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=200), suite=st.sampled_from([*GOOD]))
def test_no_file_raises_anything_else(tmp_path: Path, text: str, suite: str) -> None:
    file = tmp_path / GOOD[suite][0]
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    says = ""
    try:
        load_suite(suite, data=file)
    except DatasetError as error:
        says = str(error)

    assert not says or says.startswith(f"{file}:")


def test_packed_files_and_folders_are_read(tmp_path: Path) -> None:
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(GOOD["humaneval"][1].encode()))
    written(tmp_path, "mmlu")
    broken = tmp_path / "b.jsonl.gz"
    broken.write_bytes(b"no gzip")

    assert load_suite("humaneval", data=packed).samples[0].id == "H/0"
    assert load_suite("mmlu", data=tmp_path).samples[0].task == "law"
    for file in (broken, tmp_path / "none.jsonl"):
        with pytest.raises(DatasetError, match=str(file)):
            load_suite("gsm8k", data=file)


def test_mt_bench_asks_what_has_a_reference(tmp_path: Path) -> None:
    asked = [
        {"question_id": 1, "category": "math", "turns": ["One?", "Two?"]},
        {"question_id": 2, "category": "writing", "turns": ["Three?", "Four?"]},
    ]
    (tmp_path / "question.jsonl").write_text("\n".join(map(json.dumps, asked)))
    with pytest.raises(DatasetError, match="reference_answer"):
        load_suite("mt-bench", data=tmp_path)
    reference = {"question_id": 1, "choices": [{"index": 0, "turns": ["1", "2"]}]}
    (tmp_path / "reference_answer_x.jsonl").write_text(json.dumps(reference))
    (only,) = load_suite("mt-bench", data=tmp_path).samples

    assert (only.task, only.gold, only.messages[0].content) == ("math", {"reference": "1"}, "One?")


def test_pairs_know_which_is_better(tmp_path: Path) -> None:
    (pair,) = pairs_of(written(tmp_path, "llmbar"))

    assert (pair.better, pair.worse) == ("y", "x")


@pytest.mark.parametrize("suite", ["small", "standard", "facts", "code"])
def test_first_samples_of_a_suite_are_of_all_tasks_alike(suite: str) -> None:
    whole = load_suite(suite)
    tasks = {sample.task for sample in whole.samples}
    part = load_suite(suite, limit=len(tasks))

    assert len({sample.id for sample in whole.samples}) == len(whole.samples)
    assert {sample.task for sample in part.samples} == tasks
    assert whole.samples[: len(tasks)] == part.samples
    assert load_suite(suite).digest == whole.digest
    assert suite == "code" or load_suite(suite, seed=1).digest != whole.digest


def test_generated_suites_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "from localfusion.evals.suites import load_suite; "
        "print(load_suite('small').digest, load_suite('standard').digest)"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(digests) == 1
    assert len(load_suite("small").samples) == 200
    assert len({sample.task for sample in load_suite("small").samples}) >= 8


def test_suites_that_are_asked_for_wrongly(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="small"):
        load_suite("smal")
    with pytest.raises(ConfigError, match="--data"):
        load_suite("small", data=tmp_path)
    for name in set(SUITES) - {"small", "standard", "facts", "code"}:
        with pytest.raises(ConfigError, match="--data"):
            load_suite(name)
