"""Runs the application on a socket until a signal; drains, then leaves the rest to the caller."""

import asyncio
import errno
import signal
import socket
import ssl
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from localfusion.config import Limits
from localfusion.errors import ConfigError
from localfusion.server.access import Access
from localfusion.server.admission import Runs
from localfusion.server.app import create_app
from localfusion.server.connection import USUAL, Connection, ConnectionLimits
from localfusion.server.gateway import Gateway
from localfusion.server.metrics import watch_loop
from localfusion.server.ports import BACKLOG, bind

KEEP_ALIVE_SECONDS = 65
"""Idle connections; longer than the 60 s of common proxies, which else meet a closing one."""
ABORT_SECONDS = 10
"""For connections to end after their runs were aborted."""


def listen(host: str, port: int) -> socket.socket:
    """Open the port, before anything heavy is loaded.

    Raises:
        ConfigError: it is taken, or this user may not have it.
    """
    try:
        listener = bind(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} is in use; stop the other program or choose --port"
            raise ConfigError(message, code="port_in_use") from error
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose --host or --port"
        ) from error
    listener.setblocking(False)
    return listener


def listen_unix(path: Path) -> socket.socket:
    """Open a unix socket for this user alone; one that nobody listens on any more is replaced.

    Raises:
        ConfigError: somebody listens there, or a socket cannot be made there.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and _is_stale(path):
            path.unlink()
        listener.bind(str(path))
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise ConfigError(f"{path}: {reason}; choose another socket", code="port_in_use") from error
    listener.setblocking(False)
    return listener


def _is_stale(path: Path) -> bool:
    if not path.is_socket():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False


def check_tls(tls: tuple[Path, Path]) -> None:
    """Try certificate and key before anything heavy is loaded.

    Raises:
        ConfigError: one of them cannot be read, or they do not belong together.
    """
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(*tls)
    except OSError as error:  # SSLError is one
        reason = error.strerror or "they do not belong together, or are no PEM"
        raise ConfigError(
            f"server.tls_cert {tls[0]} and server.tls_key {tls[1]}: {reason}; mend or remove both"
        ) from error


async def serve(
    gateway: Gateway,
    listener: socket.socket | None = None,
    *,
    access: Access | None = None,
    tls: tuple[Path, Path] | None = None,
    connections: ConnectionLimits | None = None,
    on_listening: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; the caller stops the engines afterwards.

    The first signal refuses new runs and lets running ones end within ``server.drain`` seconds,
    then aborts them with a typed error; the second aborts them at once. Cancelling does too. Both
    signals belong to this function while it runs, and to whoever had them before afterwards.

    Args:
        gateway: What answers.
        listener: From ``listen`` or ``listen_unix``, closed at the end; None: as set.
        access: Decides who may call; None: everyone on this machine.
        tls: Certificate chain and key, both PEM; None: plain http.
        connections: What each connection may do, and how many there may be; None: as set.
        on_listening: Called once requests are answered.

    Raises:
        ConfigError: the settings' port is in use.
    """
    settings = gateway.settings.server
    listener = listener or listen(settings.host, settings.port)
    limits = gateway.settings.limits
    connections = connections or _as_set(limits)
    http = gateway.telemetry.http
    runs = Runs(limits, http.waited, gateway.traces)
    app = create_app(gateway, runs, access)
    protocol = partial(Connection, limits=connections, refused=http.refused)
    server = _Server(_configure(app, tls, protocol), connections.head_seconds, on_listening)
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            runs.aborted.set()
            server.should_exit = server.force_exit = True
        gateway.draining = True
        runs.turn_away()
        stopping.set()

    try:
        with _signals(stop):
            async with asyncio.TaskGroup() as group:
                background = [
                    group.create_task(_drain(stopping, runs, server, settings.drain)),
                    group.create_task(watch_loop(http)),
                ]
                await server.serve(sockets=[listener])
                for task in background:
                    task.cancel()
    finally:
        runs.aborted.set()
        if server.started and not server.has_shut_down:
            await server.shutdown(sockets=[listener])
        listener.close()


def _as_set(limits: Limits) -> ConnectionLimits:
    return replace(USUAL, connections=limits.connections, head_seconds=limits.head_wait)


def _configure(
    app: FastAPI, tls: tuple[Path, Path] | None, protocol: "partial[Connection]"
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        ssl_certfile=tls and tls[0],
        ssl_keyfile=tls and str(tls[1]),
        http=protocol,  # type: ignore[arg-type]  # called like a class
        ws="none",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        # The application logs its own faults; uvicorn would add tracebacks with content.
        log_level="critical",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=ABORT_SECONDS,
    )


async def _drain(
    stopping: asyncio.Event, runs: Runs, server: uvicorn.Server, seconds: float
) -> None:
    await stopping.wait()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await runs.wait_idle()
    runs.aborted.set()
    server.should_exit = True


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    wanted = (signal.SIGTERM, signal.SIGINT)
    # Not loop.add_signal_handler, which could not give back what was there before.
    before = {
        number: signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))
        for number in wanted
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Server(uvicorn.Server):
    """Uvicorn without signals of its own, which it would raise again on the way out."""

    def __init__(
        self, config: uvicorn.Config, handshake_seconds: float, on_listening: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self.has_shut_down = False
        self._handshake_seconds = handshake_seconds
        self._on_listening = on_listening

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's own, which leaves a handshake a minute and has no setting for that."""
        config = self.config
        protocol = partial(  # type: ignore[call-arg]  # as uvicorn calls it
            config.http_protocol_class,
            config=config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        self.servers = [
            await asyncio.get_running_loop().create_server(
                protocol,
                sock=listener,
                ssl=config.ssl,
                backlog=config.backlog,
                ssl_handshake_timeout=self._handshake_seconds if config.ssl else None,
            )
            for listener in sockets or ()
        ]
        self.started = True
        self._on_listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.has_shut_down = True
        await super().shutdown(sockets)
