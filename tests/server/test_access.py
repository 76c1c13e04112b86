"""Keys, scopes, names of the server, https, request ids and what the access log tells."""

import ast
import asyncio
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx2
import pytest
import trustme
from fastapi.routing import APIRoute

from localfusion.errors import ConfigError
from localfusion.server import access as access_module
from localfusion.server import keys as keys_module
from localfusion.server.access import Access
from localfusion.server.app import create_app
from localfusion.server.keys import KeyFile
from localfusion.server.logs import Masked, access_log, mask
from localfusion.server.serving import check_tls
from tests.server.system import CHAT, Served, SimGateway, body, gateway, served

OTHER = "lf-" + "x" * 43


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "own" / "keys.json")


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def latin(headers: Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return headers as bytes: a repeated one is sent twice, another character than ASCII too."""
    return [(name.encode(), value.encode("latin-1")) for name, value in headers]


async def test_server_without_keys_is_open_to_this_machine(keys: KeyFile) -> None:
    async with served(access=Access(keys=keys)) as server:
        answer = await server.http.post(CHAT, json=body(), headers=bearer("none"))

    assert answer.status_code == 200


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
async def test_key_opens_the_server(keys: KeyFile, header: str) -> None:
    secret = keys.create("ann", "use")
    value = f"Bearer {secret}" if header == "authorization" else secret
    async with served(access=Access(keys=keys)) as server:
        answer = await server.http.post(CHAT, json=body(), headers={header: value})
        without = await server.http.post(CHAT, json=body())

    assert answer.status_code == 200
    assert without.status_code == 401


@pytest.mark.threat(7)
@pytest.mark.malformed("M13")
async def test_every_wrong_credential_gets_the_same_refusal(keys: KeyFile) -> None:
    secret = keys.create("ann", "use")
    wrong: list[list[tuple[str, str]]] = [
        [],
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Basic YTpi")],
        [("authorization", secret)],
        [("authorization", f"Bearer {OTHER}")],
        [("authorization", f"Bearer {secret}"), ("authorization", f"Bearer {OTHER}")],
        [("authorization", f"Bearer {secret}"), ("x-api-key", OTHER)],
        [("authorization", "Bearer \u00e4\u00f6")],
        [("authorization", f"Bearer {'k' * 10_000}")],
        [("x-api-key", secret[:-1])],
    ]
    async with served(access=Access(keys=keys)) as server:
        answers = [
            await server.http.post(CHAT, json=body(), headers=latin(headers)) for headers in wrong
        ]

    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].json()["error"]["code"] == "invalid_api_key"
    assert answers[0].json()["error"]["type"] == "authentication_error"
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
    assert server.gateway.calls == 0


@pytest.mark.threat(7)
async def test_no_address_answers_without_a_key(keys: KeyFile) -> None:
    keys.create("ann", "use")
    app = create_app(gateway(), access=Access(keys=keys))
    paths = {route.path for route in app.routes if isinstance(route, APIRoute)}
    paths |= {"/openapi.json", "/mcp", "/nothing", "/"}
    closed = sorted(re.sub(r"{[^}]*}", "x", path) for path in paths - {"/health", "/ready", "/"})
    client = httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://localhost", trust_env=False
    )
    async with client:
        found = {
            (method, path): (await client.request(method, f"http://localhost{path}")).status_code
            for path in (*closed, *(f"/{p}" for p in closed), *(f"{p}/" for p in closed))
            for method in ("GET", "HEAD", "OPTIONS", "POST", "DELETE")
        }

    assert set(found.values()) == {401}, {k for k, v in found.items() if v != 401}


async def test_probes_need_no_key_and_learn_no_more_than_the_status(keys: KeyFile) -> None:
    secret = keys.create("ann", "use")
    async with served(access=Access(keys=keys)) as server:
        health = await server.http.get("/health")
        ready = await server.http.get("/ready")
        told = await server.http.get("/ready", headers=bearer(secret))

    assert health.status_code == ready.status_code == 200
    assert ready.json() == {"status": "ready"}
    assert "engines" in told.json()


class Steered(SimGateway):
    """Can be reloaded."""

    async def reload(self) -> tuple[str, ...]:
        return ("nothing",)


@pytest.mark.malformed("M13")
async def test_steering_needs_an_admin_key(keys: KeyFile) -> None:
    use, admin = keys.create("ann", "use"), keys.create("root", "admin")
    plain = gateway()
    system = Steered(plain.engines, plain.settings)
    async with served(system, access=Access(keys=keys)) as server:
        steer = ["/v1/reload", "/v1/engines/a/load", "/v1/engines/a/unload"]
        refused = [await server.http.post(path, headers=bearer(use)) for path in steer]
        looked = await server.http.get("/v1/engines", headers=bearer(use))
        done = await server.http.post("/v1/reload", headers=bearer(admin))

    assert {answer.status_code for answer in refused} == {403}
    assert {answer.json()["error"]["code"] for answer in refused} == {"insufficient_scope"}
    assert looked.status_code == 200
    assert done.json() == {"changes": ["nothing"]}


async def test_this_users_own_commands_have_a_key_of_their_own(keys: KeyFile) -> None:
    keys.create("ann", "use")
    async with served(access=Access(keys=keys, local_key=OTHER)) as server:
        answer = await server.http.get("/v1/engines", headers=bearer(OTHER))

    assert answer.status_code == 200


async def test_keys_come_and_go_while_the_server_runs(keys: KeyFile) -> None:
    async with served(access=Access(keys=keys)) as server:
        before = await server.http.get("/v1/models")
        secret = keys.create("ann", "use")
        without = await server.http.get("/v1/models")
        with_it = await server.http.get("/v1/models", headers=bearer(secret))
        keys.revoke("ann")
        revoked = await server.http.get("/v1/models", headers=bearer(secret))
        keys.path.unlink()
        gone = await server.http.get("/v1/models")

    statuses = [answer.status_code for answer in (before, without, with_it, revoked, gone)]
    assert statuses == [200, 401, 200, 401, 401]


async def test_broken_file_of_keys_opens_nothing(keys: KeyFile) -> None:
    secret = keys.create("ann", "use")
    keys.path.write_text('{"keys": [{"name": "canary"}]}')
    async with served(access=Access(keys=keys)) as server:
        answer = await server.http.get("/v1/models", headers=bearer(secret))

    assert answer.status_code == 500
    assert "canary" not in answer.text
    assert str(keys.path) not in answer.text


async def test_key_is_demanded_where_other_machines_can_call() -> None:
    async with served(access=Access(is_closed=True)) as server:
        answer = await server.http.get("/v1/models")

    assert answer.status_code == 401


async def test_server_is_called_by_names_that_are_set() -> None:
    async with served(access=Access(["box.lan", "[fd00::7]"])) as server:
        statuses = [
            (await server.http.get("/health", headers={"host": host})).status_code
            for host in ("box.lan", "BOX.lan:8000", "[fd00::7]:8000", "x.box.lan", "box.lan.evil")
        ]

    assert statuses == [200, 200, 200, 403, 403]


def test_file_keeps_no_secret_and_is_private(keys: KeyFile) -> None:
    secret = keys.create("ann", "admin")

    assert secret not in keys.path.read_text()
    assert keys.path.stat().st_mode & 0o777 == 0o600
    assert keys.path.parent.stat().st_mode & 0o777 == 0o700
    found = keys.find(secret)
    assert found is not None
    assert (found.name, found.scope) == ("ann", "admin")
    assert keys.find(OTHER) is None


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "../x", "local", "ann"])
def test_name_that_is_none_or_taken_is_refused(keys: KeyFile, name: str) -> None:
    keys.create("ann", "use")

    with pytest.raises(ConfigError, match="choose another"):
        keys.create(name, "use")


def test_unknown_key_cannot_be_revoked(keys: KeyFile) -> None:
    keys.create("ann", "use")

    with pytest.raises(ConfigError, match="known: ann"):
        keys.revoke("bob")


def test_file_that_others_may_write_to_is_refused(keys: KeyFile) -> None:
    keys.create("ann", "use")
    keys.path.chmod(0o666)

    with pytest.raises(ConfigError, match="chmod 600"):
        keys.read()


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match=r"server\.keys"):
        KeyFile(tmp_path / "file" / "keys.json").create("ann", "use")


@pytest.mark.threat(7)
@pytest.mark.parametrize("module", [keys_module, access_module])
def test_no_digest_or_secret_is_compared_by_equality(module: object) -> None:
    path = getattr(module, "__file__", "")
    compared = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(Path(path).read_text()))
        if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq) for op in node.ops)
    ]

    assert not [text for text in compared if re.search("secret|digest|sha256|_local", text)]


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    authority = trustme.CA()
    made = authority.issue_cert("localhost")
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    made.private_key_pem.write_to_path(str(key))
    blobs = [*made.cert_chain_pems, authority.cert_pem]
    chain.write_bytes(b"".join(blob.bytes() for blob in blobs))
    return chain, key


async def test_https_is_spoken_where_a_certificate_is_set(certificate: tuple[Path, Path]) -> None:
    async with served(tls=certificate) as server:
        answer = await server.http.post(CHAT, json=body())

    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"]


@pytest.mark.threat(11)
@pytest.mark.malformed("M03")
@pytest.mark.parametrize("start", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half"])
async def test_handshake_that_does_not_end_is_cut(
    certificate: tuple[Path, Path], start: bytes
) -> None:
    async with served(gateway(limits={"head_wait": "200ms"}), tls=certificate) as server:
        port = int(server.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(start)
        rest = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        answer = await server.http.get("/health")

    assert rest == b""
    assert answer.status_code == 200


def test_certificate_that_is_none_is_refused_at_the_start(
    certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    check_tls(certificate)
    for pair in (
        (tmp_path / "none.pem", certificate[1]),
        (certificate[1], certificate[1]),
        (certificate[0], certificate[0]),
    ):
        with pytest.raises(ConfigError, match=r"server\.tls_cert"):
            check_tls(pair)


@pytest.mark.malformed("M38")
@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("my-request.7_x", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("x" * 10_000, False),
        ("a b", False),
        ('"', False),
        ("\u00e4", False),
        ("", False),
    ],
)
async def test_request_id_is_the_clients_where_it_can_stand_in_a_log(sent: str, kept: bool) -> None:
    async with served() as server:
        answer = await server.http.get("/health", headers=latin([("x-request-id", sent)]))

    told = answer.headers["x-request-id"]
    assert (told == sent) is kept
    assert kept or re.fullmatch(r"req_[0-9a-f]{32}", told)


class Lines(logging.Handler):
    """Keeps what is logged, as a file would have it."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(Masked("%(message)s"))
        self.text: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.text.append(self.format(record))


@pytest.fixture
def lines() -> Iterator[Lines]:
    logger, handler = logging.getLogger("localfusion"), Lines()
    logger.addHandler(handler)
    access_log.setLevel(logging.INFO)
    yield handler
    access_log.setLevel(logging.NOTSET)
    logger.removeHandler(handler)


async def ask_everything(server: Served, headers: Mapping[str, str]) -> None:
    text = "canaryprompt"
    await server.http.post(CHAT, json=body(text), headers=headers)
    await server.http.post(CHAT, json=body(text, stream=True), headers=headers)
    await server.http.post(CHAT, json=body(text, temperature="canaryvalue"), headers=headers)
    await server.http.post("/v1/responses", json={"model": "a", "input": text}, headers=headers)
    await server.http.get("/v1/models/canarymodel?q=canaryquery", headers=headers)
    await server.http.get("/canarypath", headers={**headers, "x-canary": "canaryheader"})


@pytest.mark.threat(8)
async def test_log_tells_the_route_and_the_keys_name_and_no_content(
    keys: KeyFile, lines: Lines
) -> None:
    secret = keys.create("ann", "use")
    async with served(access=Access(keys=keys)) as server:
        await ask_everything(server, bearer(secret))
        await ask_everything(server, bearer(OTHER))

    told = [json.loads(line) for line in lines.text]
    assert len(told) == 12
    assert told[0]["key"] == "ann"
    assert (told[0]["method"], told[0]["route"], told[0]["status"]) == ("POST", CHAT, 200)
    assert told[0]["ms"] >= 0
    assert told[4]["route"] == "/v1/models/{name:path}"
    assert [line["route"] for line in told[5:]] == [None] * 7
    assert [line["status"] for line in told[6:]] == [401] * 6
    assert "canary" not in "".join(lines.text)
    assert secret not in "".join(lines.text)


async def test_nothing_is_logged_unless_it_is_wanted(lines: Lines) -> None:
    access_log.setLevel(logging.WARNING)
    async with served() as server:
        await server.http.get("/health")

    assert lines.text == []


def test_secrets_and_controls_are_masked_in_any_log() -> None:
    line = f"a Bearer {OTHER} b {OTHER}\x1b[31m\u202e" + "y" * 20_000

    masked = mask(line)

    assert OTHER not in masked
    assert "x" * 8 not in masked
    assert masked.startswith("a Bearer *** b lf-***")
    assert "\x1b" not in masked
    assert "\u202e" not in masked
    assert len(masked) < 17_000
