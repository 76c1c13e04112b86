"""The two servers that are compared: localfusion over engines of its own, and OptiLLM over them."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import yaml

from localfusion.config import Config, cache_dir
from localfusion.server.ports import bind

VERSION = "0.4.0"
_PACKAGES = (
    "aiohttp==3.14.5",
    "cerebras-cloud-sdk==1.91.0",
    "flask==3.1.3",
    "math-verify==0.9.0",
    "networkx==3.6.1",
    "numpy==2.4.6",
    "openai==3.54.0",
    "pyyaml==6.0.3",
    "z3-solver==4.15.4.0",
)
"""What OptiLLM's server imports. Its metadata names 26 more, torch among them, for approaches
other than moa."""

PANEL_TEMPERATURE, JUDGE_TEMPERATURE = 1.0, 0.1
"""As optillm/moa.py has them, so that all arms sample alike."""
SAMPLES = 3
"""As optillm/moa.py has it."""

START_SECONDS = 600.0
STOP_SECONDS = 60.0


class PeerError(Exception):
    """An arm, or a server of one, that did not do what it is measured by."""


def end_tokens(model: str) -> Sequence[int]:
    """Return the tokens that end an answer of a model that has been fetched."""
    (file,) = cache_dir().glob(f"models/{model}-*/generation_config.json")
    ends = json.loads(file.read_text())["eos_token_id"]
    return ends if isinstance(ends, list) else [ends]


def derive(loaded: Config, model: str, max_tokens: int) -> dict[str, Any]:
    """Return a models.yaml of one model: samples of it as the panel, and it as the judge.

    Preset ``peers`` compares drafts as a preset does by default; ``plain`` does not compare them;
    ``after`` is ``plain`` with a judge that reads no draft before the panel is done.
    """
    shipped = yaml.safe_load(loaded.file.read_text())
    preset = {
        "policy": "fuse",
        "panel": [{"model": model, "n": SAMPLES, "temperature": PANEL_TEMPERATURE}],
        "judge": model,
        "panel_max_tokens": max_tokens,
        "analysis_max_tokens": max(max_tokens, 64),
        "answer_max_tokens": max_tokens,
    }
    plain = preset | {"options": {"analysis": "none"}}
    own: dict[str, Any] = {
        "default_preset": {"gpu": "peers", "cpu": "peers"},
        "models": {model: shipped["models"][model]},
        "presets": {"peers": preset, "plain": plain, "after": plain | {"prefill": False}},
    }
    if loaded.engine_python is not None:
        own["engine_python"] = str(loaded.engine_python)
    return own


@asynccontextmanager
async def localfusion_server(
    derived: Mapping[str, object], folder: Path
) -> AsyncGenerator[str, None]:
    """Serve a derived models.yaml and yield the URL up to and including /v1.

    The engines' sockets are in ``folder/localfusion-*``.
    """
    file = folder / "models.yaml"
    file.write_text(json.dumps(derived))  # JSON is YAML, and knows no aliases
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LOCALFUSION")}
    env = kept | {"TMPDIR": str(folder), "LOCALFUSION_CACHE": str(cache_dir())}
    env["LOCALFUSION_STATE"] = str(folder)
    port = _free_port()
    command = [sys.executable, "-m", "localfusion", "--config", str(file), "serve"]
    command += ["--preset", "peers", "--preset", "plain", "--preset", "after", "--port", str(port)]
    async with _child(command, env, folder / "localfusion.log", port, "/ready"):
        yield f"http://127.0.0.1:{port}/v1"


@asynccontextmanager
async def optillm_server(engine_url: str, folder: Path) -> AsyncGenerator[str, None]:
    """Run OptiLLM's own server in front of an engine; yield its URL up to and including /v1.

    It is installed on the first use.

    Raises:
        PeerError: it cannot be installed, or does not start.
    """
    program = await install_optillm()
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "OPENAI_API_KEY": "none"}
    port = _free_port()
    command = [str(program), "--approach", "moa", "--base-url", engine_url, "--port", str(port)]
    async with _child(command, env, folder / "optillm.log", port, "/health"):
        yield f"http://127.0.0.1:{port}/v1"


async def install_optillm() -> Path:
    """Return OptiLLM's program in an environment of its own in the cache folder."""
    home = cache_dir() / "bench" / f"optillm-{VERSION}"
    program, done = home / "bin" / "optillm", home / "installed"
    if not done.exists():
        print(f"  installing OptiLLM {VERSION} into {home}", flush=True)
        await _run([sys.executable, "-m", "venv", "--clear", str(home)])
        pip = [str(home / "bin" / "python"), "-m", "pip", "--quiet", "install"]
        await _run([*pip, *_PACKAGES])
        await _run([*pip, "--no-deps", f"optillm=={VERSION}"])
        done.touch()
    return program


async def _run(command: Sequence[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    if process.returncode:
        raise PeerError(f"{' '.join(command)} failed: {_last_line(said.decode())}")


def _free_port() -> int:
    with bind("127.0.0.1", 0) as taken:
        port: int = taken.getsockname()[1]
    return port


@asynccontextmanager
async def _child(
    command: Sequence[str], env: Mapping[str, str], log: Path, port: int, path: str
) -> AsyncGenerator[None, None]:
    """Run a server once ``path`` answers with 200; it is stopped at the end."""
    with log.open("wb") as written:
        process = await asyncio.create_subprocess_exec(
            *command, env=env, cwd=log.parent, stdout=written, stderr=written
        )
    try:
        try:
            async with asyncio.timeout(START_SECONDS):
                await _until_it_answers(process, f"http://127.0.0.1:{port}{path}", log)
        except TimeoutError as error:
            raise PeerError(f"{log.stem} did not serve within {START_SECONDS:g} s") from error
        yield
    finally:
        await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _until_it_answers(process: asyncio.subprocess.Process, url: str, log: Path) -> None:
    async with httpx2.AsyncClient(trust_env=False) as client:
        while process.returncode is None:
            try:
                if (await client.get(url)).status_code == 200:
                    return
            except httpx2.TransportError:
                pass  # it does not listen yet
            await asyncio.sleep(0.5)
    said = await asyncio.to_thread(log.read_text)
    raise PeerError(f"{log.stem} ended before it served: {_last_line(said)}")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]
