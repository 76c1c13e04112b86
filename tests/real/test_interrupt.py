"""Ctrl-C while a real vLLM engine loads: its engine core, a process of its own, ends as well."""

import json
import signal
from pathlib import Path

import pytest
import yaml

from localfusion.config import cache_dir
from tests.cli.conftest import Place, place
from tests.real.conftest import ROOT

__all__ = ["place"]

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

MODEL = "smollm2-135m"


def test_interrupt_while_a_real_engine_loads(place: Place) -> None:
    shipped = yaml.safe_load((ROOT / "models.yaml").read_text())
    preset = {"panel": [MODEL], "judge": MODEL}
    document = {
        "default_preset": {"gpu": "one", "cpu": "one"},
        "server": {"port": place.port},
        "models": {MODEL: shipped["models"][MODEL]},
        "presets": {"one": preset},
    }
    place.file.write_text(json.dumps(document))
    Path(place.env["LOCALFUSION_CACHE"]).symlink_to(cache_dir())
    process = place.start("ask", "x")
    assert process.stderr is not None
    for line in process.stderr:
        if "loading" in line:
            break

    process.send_signal(signal.SIGINT)
    error = process.communicate()[1]

    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert place.left_behind() == []
