"""What every test gets: the asyncio backend, and no way to any address but loopback."""

import ipaddress
import socket
from collections.abc import Callable, Iterator, Mapping

import pytest
from hypothesis import HealthCheck, settings

from tests import virtual_time

# A busy machine makes an example slow, and that is no failure.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")

MARKERS = ("virtual_time: the loop's clock jumps to the next timer (tests/virtual_time.py)",)


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


@pytest.fixture
def anyio_backend(
    request: pytest.FixtureRequest,
) -> str | tuple[str, Mapping[str, object]]:
    if request.node.get_closest_marker("virtual_time"):
        return virtual_time.BACKEND
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let sockets of this process reach unix paths and loopback only; hub switches off.

    Keys and whatever else stays are kept out of the user's own folder.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCALFUSION_STATE", str(tmp_path_factory.mktemp("state")))
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
            patch.setenv(name, "1")
        patch.setattr(socket, "socket", _LoopbackSocket)
        yield


class _LoopbackSocket(socket.socket):
    def connect(self, address: object, /) -> None:
        _refuse_far(self, address)
        super().connect(address)  # type: ignore[arg-type]  # passed on as it came

    def connect_ex(self, address: object, /) -> int:
        _refuse_far(self, address)
        return super().connect_ex(address)  # type: ignore[arg-type]  # passed on as it came

    def sendto(self, *args: object) -> int:
        _refuse_far(self, args[-1])
        return super().sendto(*args)  # type: ignore[call-overload, no-any-return]  # as it came


def _refuse_far(sock: socket.socket, address: object) -> None:
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
        return
    host = str(address[0])
    try:
        is_near = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_near = host == "localhost"
    if not is_near:
        raise OSError(f"tests are offline: {host} is not loopback")


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Find ports on loopback that nobody listens on now."""

    def find() -> int:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        assert isinstance(port, int)
        return port

    return find
