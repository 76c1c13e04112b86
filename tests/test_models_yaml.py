"""The shipped models.yaml, its generated page, and what a wrong one is answered with."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localfusion.config import Config, ModelSpec, Section, load
from localfusion.errors import ConfigError
from localfusion.memory import kv_bytes_per_token, weight_bytes

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "models.yaml"
PAGE = ROOT / "docs" / "models-yaml.md"

# Per token in bf16: 2 x layers x KV heads x head size x 2. Sliding layers and the states of linear
# attention do not grow with the prompt: 5 of 30 layers count in Gemma 4, 16 of 64 in Qwen3.6.
KV_BYTES = {
    "smollm2-135m": 2 * 30 * 3 * 64 * 2,
    "qwen2.5-coder-0.5b": 2 * 24 * 2 * 64 * 2,
    "qwen2.5-coder-1.5b": 2 * 28 * 2 * 128 * 2,
    "qwen3-4b": 2 * 36 * 8 * 128 * 2,
    "granite-4.1-3b": 2 * 40 * 8 * 64 * 2,
    "qwen3-30b-a3b": 2 * 48 * 4 * 128 * 2,
    "granite-4.1-30b": 2 * 64 * 8 * 128 * 2,
    "phi-4": 2 * 40 * 10 * 128 * 2,
    "gemma-4-26b-a4b": 2 * 5 * 2 * 512 * 2,
    "qwen3.6-27b": 2 * 16 * 4 * 256 * 2,
}
# layers, hidden, query width, KV width, MLP width, vocabulary, embedding tables, bytes of a linear
# parameter: W = linear parameters x width + tables x vocabulary x hidden x 2, norms left out.
DENSE = {
    "qwen3-4b": (36, 2560, 4096, 1024, 9728, 151_936, 1, 1),
    "granite-4.1-3b": (40, 2560, 2560, 512, 8192, 100_352, 1, 2),
    "granite-4.1-30b": (64, 4096, 4096, 1024, 32_768, 100_352, 1, 1),
    "phi-4": (40, 5120, 5120, 1280, 17_920, 100_352, 2, 2),
}


@pytest.fixture(scope="module")
def shipped() -> Config:
    return load(SHIPPED)


def test_shipped_presets_are_the_promised_ones(shipped: Config) -> None:
    settings = shipped.settings

    assert list(settings.presets) == [
        *("fast", "budget", "quality"),
        *("demo", "demo-large"),
    ]
    assert (settings.default_preset.gpu, settings.default_preset.cpu) == ("fast", "demo")
    assert all(preset.description for preset in settings.presets.values())


def test_gpu_panels_have_members_of_different_families(shipped: Config) -> None:
    for name in ("fast", "budget", "quality"):
        preset = shipped.settings.presets[name]
        makers = {shipped.settings.models[m.model].origin.split(",")[0] for m in preset.panel}

        assert len(makers) == len(preset.panel), name


def test_every_model_names_license_and_origin(shipped: Config) -> None:
    for name, spec in shipped.settings.models.items():
        assert spec.license in ("Apache-2.0", "MIT"), name
        assert spec.origin != "unknown", name


def test_no_revision_or_digest_was_written_by_hand() -> None:
    text = SHIPPED.read_text()
    digests = re.findall(r"[0-9a-f]{40,}", text)

    assert len(digests) == 3  # the demo models' GGUF files, checked by downloading them
    assert "revision: " not in re.sub(r"#.*", "", text)


@pytest.mark.parametrize(("name", "expected"), KV_BYTES.items())
def test_kv_bytes_follow_from_the_architecture(shipped: Config, name: str, expected: int) -> None:
    facts = shipped.settings.models[name].facts

    assert facts is not None
    assert kv_bytes_per_token(facts.shape) == expected


@pytest.mark.parametrize("name", [*DENSE, "qwen3-30b-a3b", "qwen3.6-27b"])
def test_shape_has_as_many_parameters_as_the_weights_say(shipped: Config, name: str) -> None:
    facts = shipped.settings.models[name].facts

    assert facts is not None
    bits = 16 if name in ("granite-4.1-3b", "phi-4") else 8
    assert facts.weight_bytes == pytest.approx(weight_bytes(facts.shape, bits), rel=0.01)


@pytest.mark.parametrize("name", DENSE)
def test_weight_bytes_follow_from_the_architecture(shipped: Config, name: str) -> None:
    layers, hidden, query, kv, mlp, vocabulary, tables, width = DENSE[name]
    linear = layers * (2 * hidden * query + 2 * hidden * kv + 3 * hidden * mlp)
    facts = shipped.settings.models[name].facts

    assert facts is not None
    assert facts.weight_bytes == linear * width + tables * vocabulary * hidden * 2


def test_every_model_has_facts_and_a_window_that_the_options_respect(shipped: Config) -> None:
    for name, spec in shipped.settings.models.items():
        assert spec.facts is not None, name
        assert int(spec.options["max_model_len"]) <= spec.facts.shape.max_position_embeddings, name


@pytest.mark.parametrize("name", ["fast", "budget", "quality", "demo", "demo-large"])
def test_judge_window_holds_panel_analysis_and_answer(shipped: Config, name: str) -> None:
    preset = shipped.settings.presets[name]
    assert preset.judge is not None
    window = int(shipped.settings.models[preset.judge].options["max_model_len"])
    written = preset.panel_max_tokens * preset.candidates
    written += preset.analysis_max_tokens + preset.answer_max_tokens

    assert window - written >= 2048, "too little is left for the conversation"


def test_every_key_is_explained_in_models_yaml_and_in_the_page() -> None:
    text, page = SHIPPED.read_text(), PAGE.read_text()
    keys = {key for section in _sections(Section) for key in section.model_fields}

    assert len(keys) > 40
    for key in keys:
        assert f"| `{key}` |" in page, key
        assert re.search(rf"\b{key}\b", text), key


def _sections(base: type[Section]) -> list[type[Section]]:
    return [s for sub in base.__subclasses__() for s in (sub, *_sections(sub))]


def test_every_key_on_the_page_has_a_meaning() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]

    assert rows
    assert all(re.search(r"\| \S[^|]* \|$", row) for row in rows)


def test_page_is_current() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "generate_docs.py"), "--check"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


GOOD = """\
default_preset: {gpu: p, cpu: p}
models:
  alpha:
    source: {hub: maker/alpha}
    options: {max_model_len: 1024}
  beta:
    source: {path: weights/beta}
presets:
  p:
    panel: [alpha, {model: beta, n: 2}]
    judge: alpha
    quorum: 2
"""


def broken(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


BAD = [
    # what is wrong, the text, the line, what the message must say
    ("unknown key", broken("    quorum: 2", "    quorom: 2"), 12, ["p.quorom", "'quorum'"]),
    ("unknown section", GOOD + "modles: {}\n", 13, ["modles", "'models'"]),
    ("unknown key of a source", broken("{hub:", "{rev: x, hub:"), 4, ["source.rev", "revision"]),
    ("unknown key of a member", broken("n: 2", "m: 2"), 10, ["panel.1.m", "known: model, n"]),
    ("wrong type", broken("quorum: 2", "quorum: two"), 12, ["p.quorum", "valid integer"]),
    ("out of range", broken("n: 2", "n: 0"), 10, ["panel.1.n", "greater than or equal to 1"]),
    ("bad duration", GOOD + "    deadline: 5h\n", 13, ["p.deadline", "valid number"]),
    ("a word for a section", GOOD + "server: on\n", 13, ["server", "keys and values"]),
    ("missing key", broken("    judge: alpha\n", ""), 9, ["p", "add one"]),
    ("no presets", GOOD[: GOOD.index("presets")], 1, ["presets is missing"]),
    ("no source", broken("    source: {hub: maker/alpha}\n", ""), 3, ["alpha", "hub, gguf"]),
    ("two sources", broken("{hub:", "{path: x, hub:"), 4, ["exactly one of path, hub"]),
    ("alias", broken("judge: alpha", "judge: *alpha"), 11, ["aliases", "write the value again"]),
    ("duplicate key", GOOD + "    quorum: 1\n", 13, ["quorum", "twice", "remove one"]),
    ("unknown member", broken("{model: beta", "{model: betta"), 10, ["'betta'", "'beta'"]),
    ("unknown judge", broken("judge: alpha", "judge: gamma"), 11, ["gamma", "known: alpha, beta"]),
    ("preset as a model", broken("judge: alpha", "judge: p"), 11, ["preset", "its models"]),
    ("quorum too large", broken("quorum: 2", "quorum: 4"), 12, ["p.quorum", "3 cand", "lower it"]),
    ("panel too large", broken("n: 2", "n: 8"), 10, ["p.panel", "9 candidates", "lower"]),
    ("no such default", broken("cpu: p}", "cpu: q}"), 1, ["default_preset.cpu", "'q'", "known: p"]),
    ("owned option", broken("{max_model_len:", "{port:"), 5, ["options.port", "remove it"]),
    ("option with hyphens", broken("max_model_len", "max-len"), 5, ["max-len", "underscores"]),
    ("bad name of a model", broken("  beta:", "  be/ta:"), 6, ["be/ta", "pattern"]),
    ("address without vllm", broken("{hub: maker/alpha}", "{hub: maker}"), 4, ["hub", "pattern"]),
    ("a name twice", broken("  beta:", "  p:").replace("beta", "p"), 9, ["model", "rename one"]),
    ("no YAML", broken("  p:", "  p"), 10, ["no valid YAML"]),
    (
        "a tag",
        broken("quorum: 2", "quorum: !!python/name:os.abort"),
        12,
        ["tags", "write the value"],
    ),
    ("a date that is none", broken("judge: alpha", "judge: 2026-13-45"), 11, ["in quotes"]),
    ("a key that is a list", GOOD + "[a, b]: 1\n", 13, ["a key is a plain word"]),
    ("too deep", "a: " + "[" * 30 + "]" * 30, 1, ["nested deeper", "flatten"]),
    ("too many values", "a: [" + "1," * 30_000 + "]", 1, ["more than 20000 values"]),
    ("empty", "", 1, ["needs keys and values"]),
]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "models.yaml"


def test_the_text_that_the_bad_ones_are_made_of_is_good(scratch: Path) -> None:
    scratch.write_text(GOOD)

    assert load(scratch).settings.presets["p"].candidates == 3


@pytest.mark.parametrize(
    ("text", "line", "words"), [row[1:] for row in BAD], ids=[r[0] for r in BAD]
)
def test_bad_file_is_refused_with_line_key_and_remedy(
    scratch: Path, text: str, line: int, words: list[str]
) -> None:
    scratch.write_text(text)

    with pytest.raises(ConfigError) as caught:
        load(scratch)

    first = next(row for row in str(caught.value).splitlines() if words[0] in row)
    assert first.startswith(f"{scratch}:{line}: ")
    assert all(word in first for word in words), first


def test_several_faults_are_all_named_at_once(scratch: Path) -> None:
    scratch.write_text(broken("n: 2", "n: 0").replace("quorum", "quorom"))

    with pytest.raises(ConfigError, match=r"(?s):10: .*:12: "):
        load(scratch)


def test_file_over_the_size_limit_is_refused_unread(scratch: Path) -> None:
    scratch.write_text("#" * (1 << 20) + "\n" + GOOD)

    with pytest.raises(ConfigError, match="larger than 1048576 bytes; is this the right file"):
        load(scratch)


def test_absent_file_names_the_ways_to_choose_another(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="LOCALFUSION_CONFIG"):
        load(tmp_path / "models.yaml")


SCRAPS = re.findall(
    r"\S+ ?", "-  ?  <<:  a:  [ ] { } &x  *x !!int  !!bool x 2026-13-45 0x_ 1:99 .nan | "
)
WORDS = st.sampled_from([*ModelSpec.model_fields, "models", "presets", "p", "\n", "  ", *SCRAPS])


@settings(deadline=None)  # the machine may be busy
@given(st.one_of(st.binary(max_size=200), st.lists(WORDS, max_size=40).map("".join)))
def test_any_file_is_accepted_or_refused_and_nothing_else(
    scratch: Path, content: bytes | str
) -> None:
    scratch.write_bytes(content if isinstance(content, bytes) else content.encode())

    assert refusal(scratch).startswith((str(scratch), "accepted"))


@settings(deadline=None)  # the machine may be busy
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), st.integers(0, len(GOOD)))
def test_any_text_inside_a_good_file_is_accepted_or_refused(
    scratch: Path, extra: str, place: int
) -> None:
    scratch.write_text(GOOD[:place] + extra + GOOD[place:], encoding="utf-8")

    assert re.match(rf"{re.escape(str(scratch))}:\d+: |accepted$", refusal(scratch))


def refusal(file: Path) -> str:
    try:
        load(file)
    except ConfigError as error:
        return str(error)
    return "accepted"
