"""A whole localfusion on this disk: models.yaml, tiny weights, and engines that are real children.

The engines' interpreter, ``engine_python``, is a script that runs the simulated server in vLLM's
place: everything but the model is what users run.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.cli.interpreters import write_interpreter
from tests.weights.places import LLAMA, write_model

ENGINE = """\
#!/bin/sh
shift 2
exec {python} -m localfusion.engines.sim_server "$@" {flags}
"""
CONFIG = {**LLAMA, "max_position_embeddings": 4096}


@dataclass
class Place:
    """A folder with all that a command line needs, and what it leaves behind.

    Attributes:
        root: A short path: engines' sockets live below it.
    """

    root: Path
    port: int
    models: list[str] = field(default_factory=lambda: ["a", "b", "judge"])

    @property
    def file(self) -> Path:
        return self.root / "models.yaml"

    @property
    def env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("LOCALFUSION")}
        place = {"LOCALFUSION_CACHE": str(self.root / "c"), "TMPDIR": str(self.root)}
        place["LOCALFUSION_STATE"] = str(self.root / "s")
        return {**kept, **place, "LOCALFUSION_CONFIG": str(self.file), "COLUMNS": "200"}

    def write(self, flags: str = "", **settings: object) -> None:
        """Write models.yaml and the engines' interpreter; ``flags`` go to the simulated server."""
        python = self.root / "python"
        python.write_text(ENGINE.format(python=sys.executable, flags=flags))
        python.chmod(0o755)
        for model in self.models:
            write_model(self.root / "w" / model, CONFIG)
        document = {
            "default_preset": {"gpu": "demo", "cpu": "demo"},
            "engine_python": str(python),
            "server": {"port": self.port},
            "models": {m: {"source": {"path": f"w/{m}"}} for m in self.models},
            "presets": {
                "demo": {
                    "panel": ["a", {"model": "b", "n": 2}],
                    "judge": "judge",
                    "options": {"analysis": "separate"},
                }
            },
            **settings,
        }
        self.file.write_text(json.dumps(document, indent=1))  # JSON is YAML

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run the command line to its end."""
        return subprocess.run(
            [sys.executable, "-m", "localfusion", *arguments],
            env=self.env,
            cwd=self.root,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def start(self, *arguments: str, within: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start the command line in a session of its own, as a terminal does.

        Args:
            arguments: Of localfusion.
            within: A command line that ends by running what follows it.
        """
        return subprocess.Popen(
            [*within, sys.executable, "-m", "localfusion", *arguments],
            env=self.env,
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def left_behind(self) -> list[str]:
        """Name processes that were started here and live, and run directories."""
        found = [str(path) for path in self.root.glob("localfusion-*")]
        for process in psutil.process_iter():
            try:
                mine = process.environ().get("TMPDIR", "").startswith(str(self.root))
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue  # it ended while we looked, or is not ours
        return found


@pytest.fixture
def place(free_port: Callable[[], int]) -> Iterator[Place]:
    """Give a place with tiny weights; nothing may be left of it in the end."""
    with tempfile.TemporaryDirectory(prefix="lf") as folder:
        made = Place(Path(folder), free_port())
        made.write()
        yield made
        for process in psutil.process_iter():
            try:
                if process.environ().get("TMPDIR", "").startswith(folder):
                    process.send_signal(signal.SIGKILL)
            except psutil.Error:
                continue


@pytest.fixture
def healthy(place: Place) -> Place:
    """Give a place with all that answering needs."""
    place.write(engine_python=str(write_interpreter(place.root / "venv")))
    return place
