"""What the operating system gives: open files, loopback, the port to serve on."""

import errno
import resource
import socket

import psutil

from localfusion.client import RemoteFusion
from localfusion.config import Config, ServerSettings
from localfusion.doctor.finding import Finding, ok, problem, warn
from localfusion.server.ports import bind

FEWEST_FILES = 1024
WANTED_FILES = 65_535
"""vLLM raises its own limit to this where it may, and warns where it may not (0.32.0)."""
ANSWER_SECONDS = 2.0


def check_open_files() -> list[Finding]:
    """Judge the limit of open files, sockets included."""
    name = "open files"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FEWEST_FILES:
        text = f"at most {soft}, and every connection takes one"
        return [problem(name, text, f"ulimit -n {WANTED_FILES}, or a higher LimitNOFILE")]
    if hard != resource.RLIM_INFINITY and hard < WANTED_FILES:
        text = f"at most {hard}; vLLM wants {WANTED_FILES} for many requests at once"
        return [warn(name, text, f"raise the hard limit to {WANTED_FILES} (LimitNOFILE)")]
    return [ok(name, f"{_limit(soft)}, engines may raise theirs to {_limit(hard)}")]


def _limit(value: int) -> str:
    return "no limit" if value == resource.RLIM_INFINITY else str(value)


def check_loopback() -> list[Finding]:
    """Connect to ourselves, as engines' own parts do."""
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname(), timeout=ANSWER_SECONDS),
        ):
            return [ok("loopback", "127.0.0.1 answers")]
    except OSError as error:
        text = f"127.0.0.1 does not answer: {error.strerror or error}"
        return [problem("loopback", text, "ip link set lo up")]


def check_port(server: ServerSettings, *, is_served: bool) -> list[Finding]:
    """Judge the port to serve on; ``is_served``: a localfusion serves there already."""
    name = "port"
    where = f"{server.host}:{server.port}"
    if is_served:
        return [ok(name, f"localfusion serves on {where}")]
    try:
        bind(server.host, server.port).close()
    except OSError as error:
        text = f"localfusion cannot listen on {where}: {error.strerror}"
        if error.errno == errno.EADDRINUSE:
            text = f"{where} is taken by {_listener(server.port)}"
        return [problem(name, text, "choose another server.port in models.yaml, or serve --port")]
    return [ok(name, f"{where} is free")]


async def is_localfusion(loaded: Config) -> bool:
    """Whether a localfusion answers at the configured address."""
    found = await RemoteFusion.find(loaded, within=ANSWER_SECONDS)
    if found is not None:
        await found.aclose()
    return found is not None


def _listener(port: int) -> str:
    """Name the program that listens on a port; others' programs need not be visible."""
    try:
        for found in psutil.net_connections("tcp"):
            is_it = found.laddr and found.laddr.port == port
            if is_it and found.status == psutil.CONN_LISTEN and found.pid is not None:
                return f"{psutil.Process(found.pid).name()} (pid {found.pid})"
    except psutil.Error:
        pass  # it ended while we looked, or is not ours to see
    return "another program"
