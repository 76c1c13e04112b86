"""What the machine's own counters say of its energy; folder and driver's binding are ours."""

import sys
from pathlib import Path

import pytest

from localfusion.hardware import EnergyMeter

NVML = """\
import json, pathlib
class NVMLError(Exception): pass
def nvmlInit(): pass
def nvmlDeviceGetCount(): return 2
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetTotalEnergyConsumption(handle):
    shown = json.loads(pathlib.Path(__file__).with_name("counters.json").read_text())[handle]
    if shown is None:
        raise NVMLError("Not Supported")
    return shown
"""


@pytest.fixture(autouse=True)
def no_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let the driver's binding be the one of ``tmp_path``, if any."""
    monkeypatch.setitem(sys.modules, "pynvml", None)


def set_gpus(
    monkeypatch: pytest.MonkeyPatch, folder: Path, first: int | None, second: int | None
) -> None:
    (folder / "counters.json").write_text(f"[{first}, {second}]".replace("None", "null"))
    if not (folder / "pynvml.py").exists():
        (folder / "pynvml.py").write_text(NVML)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, "pynvml", raising=False)


def write_zone(folder: Path, zone: str, name: str, energy: int, turns_at: int = 1000) -> None:
    place = folder / zone
    place.mkdir(exist_ok=True, parents=True)
    (place / "name").write_text(f"{name}\n")
    (place / "energy_uj").write_text(f"{energy}\n")
    (place / "max_energy_range_uj").write_text(f"{turns_at}\n")


def test_machine_without_counters_has_no_energy(tmp_path: Path) -> None:
    assert EnergyMeter(tmp_path / "none").read() is None


def test_packages_are_added_up_and_nothing_is_counted_twice(tmp_path: Path) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0", 3_000_000)
    write_zone(tmp_path, "intel-rapl:1", "package-1", 4_500_000)
    write_zone(tmp_path, "intel-rapl:0:0", "core", 1_000_000)
    write_zone(tmp_path, "intel-rapl:2", "psys", 9_000_000)
    write_zone(tmp_path, "intel-rapl-mmio:0", "package-0", 3_000_000)

    assert EnergyMeter(tmp_path).read() == pytest.approx(7.5)


def test_counter_that_turns_over_goes_on(tmp_path: Path) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0", 9_000_000, turns_at=10_000_000)
    meter = EnergyMeter(tmp_path)
    shown = [meter.read()]

    for energy in (2_000_000, 2_000_000, 5_000_000, 1_000_000):
        write_zone(tmp_path, "intel-rapl:0", "package-0", energy, turns_at=10_000_000)
        shown.append(meter.read())

    assert shown == pytest.approx([9, 12, 12, 15, 21])


def test_counter_that_cannot_be_read_is_left_out_for_good(tmp_path: Path) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0", 3_000_000)
    write_zone(tmp_path, "intel-rapl:1", "package-1", 4_000_000)
    (tmp_path / "intel-rapl:1" / "energy_uj").unlink()

    meter = EnergyMeter(tmp_path)
    write_zone(tmp_path, "intel-rapl:1", "package-1", 4_000_000)

    assert meter.read() == pytest.approx(3)  # else a run in which it appears had used 4 J


def test_counter_that_falls_silent_keeps_what_it_said(tmp_path: Path) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0", 3_000_000)
    meter = EnergyMeter(tmp_path)

    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()

    assert meter.read() == pytest.approx(3)


def test_gpus_count_beside_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch, tmp_path, 5_000, 7_000)
    write_zone(tmp_path, "intel-rapl:0", "package-0", 3_000_000)

    assert EnergyMeter(tmp_path).read() == pytest.approx(5 + 7 + 3)


def test_gpu_without_a_counter_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch, tmp_path, 5_000, None)

    assert EnergyMeter(tmp_path / "none").read() == pytest.approx(5)


def test_gpu_whose_driver_is_loaded_anew_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_gpus(monkeypatch, tmp_path, 5_000, None)
    meter = EnergyMeter(tmp_path / "none")

    set_gpus(monkeypatch, tmp_path, 1_000, None)

    assert meter.read() == pytest.approx(6)
