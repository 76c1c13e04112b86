"""Everything but chat: models, health, readiness, refusals before a run, faults of ours."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping

import pytest
from openai import APIStatusError, NotFoundError

from localfusion.engines.base import PhaseChange
from localfusion.engines.sim import SimEngine
from tests.server.system import CHAT, Served, SimGateway, body, gateway, served, stalled


async def raw(server: Served, request: str) -> tuple[int, dict[str, str]]:
    """Send bytes as they are; return the status and the error."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request.replace("\n", "\r\n").encode())
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.split("content-length: ")[1].split("\r\n")[0])
    content = await reader.readexactly(length)
    writer.close()
    return int(head.split()[1]), json.loads(content)["error"]


async def test_models_are_listed_with_presets_and_slugs() -> None:
    async with served() as server:
        page = await server.openai.models.list()

    listed = {model.id: (model.model_extra or {})["kind"] for model in page.data}
    assert listed == {
        "localfusion/trio": "preset",
        "openrouter/fusion": "preset",
        "openrouter/fusion-flash": "preset",
        "a": "model",
        "b": "model",
        "c": "model",
        "d": "model",
    }


async def test_context_of_a_preset_is_its_smallest_members() -> None:
    async with served(gateway(b=SimEngine(max_model_len=512))) as server:
        preset = await server.openai.models.retrieve("localfusion/trio")
        model = await server.openai.models.retrieve("a")

    assert (preset.model_extra or {})["max_model_len"] == 512
    assert (model.model_extra or {})["max_model_len"] == 4096
    assert (model.owned_by, (model.model_extra or {})["license"]) == ("nobody", "Apache-2.0")


async def test_preset_tells_what_it_is_made_of() -> None:
    preset = {"description": "Three.", "panel": [{"model": "a", "n": 2}, "b"], "policy": "vote"}
    async with served(gateway(preset=preset | {"options": {}})) as server:
        entry = (await server.http.get("/v1/models/localfusion/trio")).json()
        model = (await server.http.get("/v1/models/a")).json()

    assert entry["panel"] == ["a", "a", "b"]
    assert (entry["judge"], entry["policy"], entry["description"]) == ("d", "vote", "Three.")
    assert "panel" not in model


@pytest.mark.parametrize("name", ["gpt", "..%2f..%2fetc%2fpasswd", "%00", "x" * 300])
async def test_unknown_model_is_not_found(name: str) -> None:
    async with served() as server:
        response = await server.http.get(f"/v1/models/{name}")
        with pytest.raises(NotFoundError):
            await server.openai.models.retrieve("gpt")

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert len(response.json()["error"]["message"]) < 200


async def test_health_names_the_service() -> None:
    async with served() as server:
        got = await server.http.get("/health")
        head = await server.http.head("/health")

    assert (got.status_code, head.status_code, head.content) == (200, 200, b"")
    assert got.json()["status"] == "ok"
    assert got.json()["service"] == "localfusion"


async def test_ready_tells_phases_and_reasons() -> None:
    system = gateway()
    async with served(system) as server:
        good = await server.http.get("/ready")
        system.reasons = ("b is loading",)
        bad = await server.http.get("/ready")

    assert (good.status_code, good.json()["reasons"]) == (200, [])
    assert good.json()["engines"]["a"] == {"phase": "ready", "seconds": 1.5, "detail": ""}
    assert (bad.status_code, bad.json()["reasons"]) == (503, ["b is loading"])


async def test_draining_server_lives_but_takes_no_run() -> None:
    system = gateway()
    async with served(system) as server:
        system.draining = True
        refused = await server.http.post(CHAT, json=body(stream=True))
        ready = await server.http.get("/ready")
        health = await server.http.get("/health")

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
    assert "x-should-retry" not in refused.headers
    assert (ready.status_code, health.status_code) == (503, 200)
    assert ready.json()["reasons"] == ["draining"]
    assert system.calls == 0


async def test_full_house_is_refused_before_the_first_byte() -> None:
    system = gateway(b=stalled(), limits={"runs": 1, "queued": 0})
    async with served(system) as server, asyncio.TaskGroup() as group:
        first = group.create_task(server.http.post(CHAT, json=body(model="b")))
        await system.wait_for_calls("b")
        refused = await server.http.post(CHAT, json=body(model="a", stream=True))
        first.cancel()
        await system.wait_for_aborts("b")
        while (accepted := await server.http.post(CHAT, json=body(model="a"))).status_code == 503:
            pass  # the engine's abort comes a moment before its place is free

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "queue_full")
    assert int(refused.headers["retry-after"]) >= 1
    assert int(refused.headers["retry-after-ms"]) >= 1000
    assert accepted.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/index.html", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/v1/models/", 404, "model_not_found"),
        ("GET", "//v1/models", 404, "not_found"),
        ("POST", "/v1/chat/completions/", 404, "not_found"),
        ("PUT", "/v1/chat/completions", 405, "method_not_allowed"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("TRACE", "/health", 405, "method_not_allowed"),
        ("OPTIONS", "/v1/models", 405, "method_not_allowed"),
    ],
)
async def test_other_addresses_and_methods_are_refused_in_json(
    method: str, path: str, status: int, code: str
) -> None:
    async with served() as server:
        response = await server.http.request(method, server.url + path)

    assert response.status_code == status
    assert response.json()["error"]["code"] == code
    assert ("allow" in response.headers) == (status == 405)


async def test_websocket_upgrade_is_answered_as_plain_http() -> None:
    upgrade = "Connection: Upgrade\nUpgrade: websocket\n"
    async with served() as server:
        status, error = await raw(server, f"GET /v1/x HTTP/1.1\nHost: localhost\n{upgrade}\n")

    assert (status, error["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "headers",
    [
        "",
        "Host: localhost\nHost: evil.test\n",
        "Host: evil.test\n",
        "Host: 127.0.0.1.nip.io\n",
        "Host: localhost.\n",
        "Host: localhost@evil.test\n",
        "Host: localhost:80:80\n",
    ],
)
async def test_foreign_host_is_refused(headers: str) -> None:
    async with served() as server:
        status, error = await raw(server, f"GET /v1/models HTTP/1.1\n{headers}\n")

    assert (status, error["code"]) == (403, "host_not_allowed")


async def test_foreign_absolute_target_is_refused() -> None:
    request = "GET http://evil.test/v1/models HTTP/1.1\nHost: localhost\n\n"
    async with served() as server:
        status, error = await raw(server, request)

    assert (status, error["code"]) == (403, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "[::1]:8000"])
async def test_loopback_host_is_served(host: str) -> None:
    async with served() as server:
        response = await server.http.get("/health", headers={"host": host})

    assert response.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.test"},
        {"origin": "null"},
        {"origin": "http://localhost:3000"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_another_sites_page_cannot_start_a_run(headers: Mapping[str, str]) -> None:
    async with served() as server:
        response = await server.http.post(CHAT, json=body(), headers=headers)

    assert (response.status_code, response.json()["error"]["code"]) == (403, "origin_not_allowed")
    assert response.json()["error"]["type"] == "permission_error"
    assert server.gateway.calls == 0


async def test_own_page_can_start_a_run() -> None:
    async with served() as server:
        headers = {"origin": server.url, "sec-fetch-site": "same-origin"}
        response = await server.http.post(CHAT, json=body(), headers=headers)

    assert response.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_body_that_is_not_declared_json_is_refused(headers: Mapping[str, str]) -> None:
    async with served() as server:
        response = await server.http.post(CHAT, content=b"{}", headers=headers)

    assert (response.status_code, response.json()["error"]["code"]) == (
        415,
        "unsupported_media_type",
    )
    assert "application/json" in response.json()["error"]["metadata"]["remedy"]


async def _endless() -> AsyncGenerator[bytes, None]:
    for _ in range(64):
        yield b" " * 1024


@pytest.mark.parametrize("chunked", [False, True])
async def test_large_body_is_refused(chunked: bool) -> None:
    content = _endless() if chunked else b" " * 65536
    async with served(gateway(limits={"body_bytes": 2048})) as server:
        headers = {"content-type": "application/json"}
        response = await server.http.post(CHAT, content=content, headers=headers)

    assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")
    assert response.headers["connection"] == "close"


async def test_official_client_sees_that_a_body_is_too_large() -> None:
    async with served() as server:
        with pytest.raises(APIStatusError, match=r"limits\.body_bytes") as refused:
            await server.openai.chat.completions.create(
                model="a", messages=[{"role": "user", "content": "x" * (6 << 20)}]
            )

    assert refused.value.status_code == 413


async def test_announced_size_is_refused_without_reading() -> None:
    async with served() as server:
        status, error = await raw(
            server,
            f"POST {CHAT} HTTP/1.1\nHost: localhost\nContent-Type: application/json\n"
            "Content-Length: 99000000000\n\n",
        )

    assert (status, error["code"]) == (413, "body_too_large")


async def test_malformed_body_has_the_whole_envelope() -> None:
    async with served() as server:
        response = await server.http.post(
            CHAT, content=b'{"a":"\\u0000"}', headers={"content-type": "application/json"}
        )

    assert response.status_code == 400
    assert response.json()["error"] == {
        "message": "a: U+0000 at character 0 is not allowed; remove it",
        "type": "invalid_request_error",
        "param": "a",
        "code": "invalid_unicode",
        "metadata": {
            "error_type": "RequestError",
            "failure_reason": None,
            "model": None,
            "stage": "parse",
            "remedy": "remove it",
            "trace_id": None,
        },
    }


async def test_large_sound_body_is_parsed() -> None:
    async with served() as server:
        response = await server.http.post(CHAT, json=body("x " * 150_000, model="a"))

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


CANARY = ["can", "ary"]
"""In two pieces, for a traceback shows the line that raised."""


class BrokenGateway(SimGateway):
    def phases(self) -> Mapping[str, PhaseChange]:
        raise ValueError("".join(CANARY))


async def test_fault_of_ours_reveals_nothing(caplog: pytest.LogCaptureFixture) -> None:
    sound = gateway()
    async with served(BrokenGateway(sound.engines, sound.settings)) as server:
        response = await server.http.get("/ready")

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (500, "internal_error")
    assert error["message"] == f"internal error, request id {response.headers['x-request-id']}"
    assert response.headers["x-should-retry"] == "false"
    assert response.headers["x-request-id"] in caplog.text
    assert "canary" not in caplog.text + response.text


def _bug(prompt: object) -> str:
    raise ZeroDivisionError("".join(CANARY))


@pytest.mark.parametrize("stream", [False, True])
async def test_bug_in_a_run_ends_it_with_a_typed_error(
    stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(gateway(b=SimEngine(_bug))) as server:
        response = await server.http.post(CHAT, json=body(model="b", stream=stream))

    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert "ZeroDivisionError" in caplog.text
    assert "canary" not in caplog.text + response.text


async def test_openapi_describes_the_chat_body() -> None:
    async with served() as server:
        document = (await server.http.get("/openapi.json")).json()

    chat = document["paths"][CHAT]["post"]
    reference = chat["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = document["components"]["schemas"][reference.rsplit("/", 1)[1]]
    assert schema["required"] == ["model", "messages"]
    assert "ChatMessage" in document["components"]["schemas"]
