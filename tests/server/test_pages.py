"""The page's files as the server gives them."""

import re
from importlib import resources
from pathlib import Path

import pytest

from localfusion.server.access import Access
from localfusion.server.keys import KeyFile
from localfusion.server.pages import FILES, INDEX, POLICY
from tests.server.system import gateway, served

WEB = Path(str(resources.files("localfusion.server") / "web"))
UNSAFE = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment"
    r"|srcdoc|\beval\(|new Function|localStorage|sessionStorage|document\.cookie|indexedDB"
)
NAMESPACE = "http://www.w3.org/2000/svg"
REMOTE = re.compile(r"//\w+\.\w|@import|url\(")


@pytest.mark.threat(16)
async def test_page_may_load_and_run_nothing_but_its_own_files() -> None:
    async with served(gateway()) as server:
        page = await server.http.get("/")

    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == POLICY
    assert POLICY.startswith("default-src 'none'")
    assert "unsafe" not in POLICY
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("name", FILES)
async def test_file_comes_with_its_type_and_is_asked_for_once(name: str) -> None:
    async with served(gateway()) as server:
        first = await server.http.get(f"/static/{name}")
        etag = {"if-none-match": first.headers["etag"]}
        again = await server.http.get(f"/static/{name}", headers=etag)
        head = await server.http.head(f"/static/{name}")

    assert first.content == (WEB / name).read_bytes()
    assert first.headers["content-type"].startswith(FILES[name])
    assert first.headers["cache-control"] == "no-cache"
    assert first.headers["content-security-policy"] == POLICY
    assert (again.status_code, again.content) == (304, b"")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    "path", ["nothing.js", "index.html", "..%2fpages.py", "%2e%2e/pages.py", "", "base.css/"]
)
async def test_nothing_else_can_be_had(path: str) -> None:
    async with served(gateway()) as server:
        answer = await server.http.get(f"/static/{path}")

    assert answer.status_code == 404


async def test_page_is_open_where_the_api_is_not(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "own" / "keys.json")
    keys.create("ann", "use")
    async with served(gateway(), access=Access(keys=keys)) as server:
        page = await server.http.get("/")
        script = await server.http.get("/static/app.js")
        other = await server.http.get("/static/nothing.js")
        models = await server.http.get("/v1/models")

    assert (page.status_code, script.status_code) == (200, 200)
    assert (other.status_code, models.status_code) == (401, 401)


async def test_page_is_no_place_to_post_to() -> None:
    async with served(gateway()) as server:
        answer = await server.http.post("/", json={})

    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"


def test_every_file_of_the_folder_is_served() -> None:
    assert {path.name for path in WEB.iterdir()} == {INDEX, *FILES}


@pytest.mark.threat(16)
@pytest.mark.parametrize("name", [INDEX, *FILES])
def test_file_reads_no_text_as_markup_keeps_nothing_and_is_whole(name: str) -> None:
    text = (WEB / name).read_text()

    assert UNSAFE.findall(text) == []
    assert REMOTE.findall(text.replace(NAMESPACE, "")) == []
    assert len(text.splitlines()) <= 400
