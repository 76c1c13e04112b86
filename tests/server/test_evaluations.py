"""``/v1/evaluations``: reports of this machine, for whoever may steer the server."""

from pathlib import Path

import pytest

from localfusion.server.access import Access
from localfusion.server.keys import KeyFile
from tests.evals.made_up import kept, results
from tests.server.system import gateway, served


@pytest.fixture
def evals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOCALFUSION_CACHE", str(tmp_path))
    return tmp_path / "evals"


async def test_evaluations_are_listed_and_their_reports_given(evals: Path) -> None:
    kept(evals, "one", results(60))
    kept(evals, "two", results(20), is_finished=False)
    kept(evals, "three", results(20))
    (evals / "three" / "report.json").write_text("{")
    async with served(gateway()) as server:
        listed = (await server.http.get("/v1/evaluations")).json()["data"]
        report = (await server.http.get("/v1/evaluations/one")).json()
        unfinished = await server.http.get("/v1/evaluations/two")
        outside = await server.http.get("/v1/evaluations/..%2fone")

    found = {one["name"]: one for one in listed}
    assert found["one"]["verdict"].startswith("On these 60 tasks")
    assert (found["one"]["samples"], found["one"]["is_finished"]) == (60, True)
    assert "--resume" in found["two"]["verdict"]
    assert found["three"]["verdict"].startswith("damaged")
    assert report["n"] == 60
    assert unfinished.status_code == outside.status_code == 404


async def test_nothing_is_an_empty_list(evals: Path) -> None:
    async with served(gateway()) as server:
        assert (await server.http.get("/v1/evaluations")).json()["data"] == []


async def test_keys_that_may_only_ask_see_no_report(evals: Path, tmp_path: Path) -> None:
    kept(evals, "one", results(20))
    keys = KeyFile(tmp_path / "own" / "keys.json")
    plain, admin = keys.create("ann", "use"), keys.create("root", "admin")
    async with served(gateway(), access=Access(keys=keys)) as server:
        codes = [
            (
                await server.http.get(
                    "/v1/evaluations/one", headers={"authorization": f"Bearer {secret}"}
                )
            ).status_code
            for secret in (plain, admin)
        ]

    assert codes == [403, 200]
