"""What starts took is kept, and predicts how long a plan's engines take."""

from pathlib import Path

import pytest

from localfusion.hardware import Cpu, Gpu, Hardware
from localfusion.placement import Plan, Slot
from localfusion.starts import Start, StartRecords, predict


def slot(model: str, *devices: str) -> Slot:
    return Slot(
        model=model,
        roles=("member",),
        devices=devices,
        cores=(),
        dtype="auto",
        max_model_len=4096,
        max_num_seqs=8,
        weight_bytes=1,
        kv_cache_bytes=1,
        bytes=2,
        gpu_memory_utilization=0.5,
        is_on_disk=True,
    )


def on(gpus: int, cores: int, *slots: Slot) -> Plan:
    cards = tuple(Gpu(f"g{i}", "card", 10, 10) for i in range(gpus))
    return Plan(slots, Hardware(Cpu(tuple(range(cores)), 10, has_bf16=True), cards))


def test_on_a_cpu_the_work_of_all_is_the_bound() -> None:
    plan = on(0, 2, slot("a"), slot("b"), slot("c"))
    starts = {name: Start(90.0, 20.0) for name in "abc"}
    assert predict(plan, starts) == 60.0


def test_on_gpus_starts_add_up_on_each_device() -> None:
    plan = on(2, 2, slot("big", "g0", "g1"), slot("a", "g0"), slot("b", "g1"))
    starts = {"big": Start(60.0, 1), "a": Start(30.0, 1), "b": Start(45.0, 1)}
    assert predict(plan, starts) == 105.0


def test_nothing_is_predicted_without_a_record_of_every_engine() -> None:
    assert predict(on(0, 2, slot("a"), slot("b")), {"a": Start(1.0, 1.0)}) is None


def test_records_survive_the_process_and_keep_the_last_start(tmp_path: Path) -> None:
    file = tmp_path / "cache" / "starts.json"
    StartRecords(file).record("a", Start(31.0, 20.0))
    StartRecords(file).record("b", Start(50.0, 40.0))
    StartRecords(file).record("a", Start(29.0, 21.0))
    assert StartRecords(file).read() == {"a": Start(29.0, 21.0), "b": Start(50.0, 40.0)}
    assert [path.name for path in file.parent.iterdir()] == ["starts.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"a": 3}', '{"a": {"x": 1}}', "\x00"])
def test_a_broken_file_counts_as_empty_and_is_replaced(tmp_path: Path, text: str) -> None:
    file = tmp_path / "starts.json"
    file.write_text(text)
    assert StartRecords(file).read() == {}
    StartRecords(file).record("a", Start(1.0, 2.0))
    assert StartRecords(file).read() == {"a": Start(1.0, 2.0)}
