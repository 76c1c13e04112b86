"""What a bundle holds, that it can be cut and signed, and that a killed creation goes on."""

import json
import subprocess
import zipfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from localfusion.bundle.check import open_bundle, read_pieces, verify
from localfusion.bundle.create import Wish, create
from localfusion.bundle.form import Target
from localfusion.bundle.own_wheel import write_own_wheel
from localfusion.bundle.signature import check_signature
from localfusion.bundle.wheels import collect_wheels
from localfusion.config import load
from localfusion.errors import BundleError, WeightsError
from localfusion.weights import pull
from tests.bundle.places import configure, flip, make
from tests.weights.places import write_config


def write_keys(folder: Path) -> tuple[Path, Path]:
    private, public = folder / "key.pem", folder / "public.pem"
    make_key: list[str | Path] = [
        "openssl",
        "ecparam",
        "-name",
        "prime256v1",
        "-genkey",
        "-noout",
        "-out",
        private,
    ]
    subprocess.run(make_key, check=True)
    show: list[str | Path] = ["openssl", "ec", "-in", private, "-pubout", "-out", public]
    subprocess.run(show, check=True, capture_output=True)
    return private, public


def test_every_file_has_digest_origin_and_license(tmp_path: Path) -> None:
    made = make(tmp_path)

    entries = {file.path: file for file in made.manifest.files}
    weights = entries["own/m/model.safetensors"]
    assert (weights.origin, weights.license, weights.kind) == ("Tiny Models", "MIT", "weights")
    assert {
        "models.yaml",
        "sbom.cdx.json",
        "docs/models-yaml.md",
        "own/m/LICENSE",
    } <= entries.keys()
    assert verify(made.folder).digest == made.digest


def test_settings_of_a_bundle_are_those_of_its_presets(tmp_path: Path) -> None:
    made = make(tmp_path)

    config = load(made.folder / "models.yaml")

    assert config.settings.models["m"].license == "MIT"
    assert config.settings.default_preset.cpu == "p"


def test_what_is_not_carried_is_listed_with_its_reason(tmp_path: Path) -> None:
    made = make(tmp_path)

    assert [(m.what, m.why) for m in made.manifest.missing] == [
        ("packages", "left out, as --no-wheels says")
    ]


def test_bill_of_materials_obeys_its_schema_and_names_the_model(tmp_path: Path) -> None:
    made = make(tmp_path)
    text = (made.folder / "sbom.cdx.json").read_text()

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    (model,) = json.loads(text)["components"]
    assert (model["name"], model["type"]) == ("m", "machine-learning-model")


@pytest.mark.parametrize("size", [65536, 70_001])
def test_volumes_are_no_larger_than_asked_and_give_the_same_bytes(
    tmp_path: Path, size: int
) -> None:
    config = configure(tmp_path)
    big = tmp_path / "mine" / "vocab.txt"
    big.write_bytes(bytes(range(256)) * 1000)
    pull(config, ["m"])
    wish = Wish(("p",), tmp_path / "b", Target.here("cpu"), with_wheels=False, volume_bytes=size)
    made = create(config, wish)

    bundle = verify(made.folder)

    used = dict.fromkeys(range(1, bundle.manifest.volumes + 1), 0)
    for piece in bundle.manifest.pieces:
        used[int(piece.path[7:9])] += piece.size
    assert all(0 < total <= size for total in used.values())
    entry = next(f for f in bundle.manifest.files if f.path == "own/m/vocab.txt")
    assert len(entry.pieces) > 1
    assert b"".join(read_pieces(bundle, entry)) == big.read_bytes()


def test_creation_goes_on_with_what_an_earlier_one_left(tmp_path: Path) -> None:
    config = configure(tmp_path)
    left = tmp_path / ".bundle.partial" / "content"
    copied = left / "own" / "m" / "model.safetensors"
    copied.parent.mkdir(parents=True)
    copied.write_bytes((tmp_path / "mine" / "model.safetensors").read_bytes())
    inode = copied.stat().st_ino
    (copied.parent / ".config.json.partial").write_text("cut")
    (left / "stale.txt").write_text("of another wish")

    made = create(config, Wish(("p",), tmp_path / "bundle", Target.here("cpu"), with_wheels=False))

    assert (made.folder / "own" / "m" / "model.safetensors").stat().st_ino == inode
    assert verify(made.folder).digest == made.digest
    assert not left.exists()


def test_changed_weights_are_not_carried(tmp_path: Path) -> None:
    config = configure(tmp_path)
    flip(tmp_path / "mine" / "model.safetensors")

    with pytest.raises(WeightsError, match=r"model\.safetensors differs"):
        create(config, Wish(("p",), tmp_path / "b", Target.here("cpu"), with_wheels=False))

    assert not (tmp_path / "b").exists()


def test_existing_folder_is_never_overwritten(tmp_path: Path) -> None:
    made = make(tmp_path)

    with pytest.raises(BundleError, match="exists; remove it"):
        make(tmp_path)

    assert verify(made.folder).digest == made.digest


def test_signature_holds_for_its_key_and_its_manifest_alone(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    _, other = write_keys(tmp_path / "..")
    made = make(tmp_path, key=private)
    bundle = open_bundle(made.folder)

    check_signature(bundle, public)

    with pytest.raises(BundleError, match="is not what the owner of"):
        check_signature(bundle, other)
    bundle.manifest_file.write_bytes(bundle.manifest_file.read_bytes() + b" ")
    with pytest.raises(BundleError, match="is not what the owner of"):
        check_signature(bundle, public)


def test_broken_signature_and_none_are_refused(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    bundle = open_bundle(make(tmp_path, key=private).folder)
    text = json.loads(bundle.signature_file.read_text())
    text["dsseEnvelope"]["signatures"][0]["sig"] = "AAAA"
    bundle.signature_file.write_text(json.dumps(text))

    with pytest.raises(BundleError, match="is not what the owner of"):
        check_signature(bundle, public)
    bundle.signature_file.unlink()
    with pytest.raises(BundleError, match="is not signed"):
        check_signature(bundle, public)


def test_key_that_cannot_sign_is_refused_before_anything_is_copied(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("no key")

    with pytest.raises(BundleError, match="no private key that can sign"):
        make(tmp_path, key=tmp_path / "key.pem")

    assert not list(tmp_path.glob(".bundle*"))


def test_own_wheel_carries_settings_docs_and_the_command(tmp_path: Path) -> None:
    first = write_own_wheel(tmp_path)

    names = zipfile.ZipFile(first).namelist()

    assert {"localfusion/models.yaml", "localfusion/docs/gpu.md"} <= set(names)
    content = first.read_bytes()
    assert write_own_wheel(tmp_path).read_bytes() == content


def test_package_that_cannot_be_had_is_listed_with_pips_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "none"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")

    (missing,) = collect_wheels(
        Target("3.13", "linux-aarch64", "gpu"), ["gpu"], tmp_path / "wheels"
    )

    assert "Python 3.13, linux-aarch64, gpu" in missing.what
    assert "No matching distribution found" in missing.why or "requirement" in missing.why


def test_unknown_preset_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    config = write_config(tmp_path, {"m": {"engine": "sim"}})

    with pytest.raises(BundleError, match="no preset 'q'"):
        create(config, Wish(("q",), tmp_path / "b", Target.here("cpu")))
