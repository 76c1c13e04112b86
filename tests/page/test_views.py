"""Engines, presets, the key, and the parts that all views share."""

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from localfusion.fusion.policies import POLICIES
from localfusion.server.access import Access
from localfusion.server.keys import KeyFile
from tests.evals.made_up import HOSTILE, kept, results
from tests.page.scene import scene
from tests.page.visits import answer, ask, visit, wait_for_end
from tests.server.system import gateway, served


async def test_engines_show_state_memory_and_restarts(page: Page) -> None:
    async with served(scene()) as server:
        await visit(page, server, "engines")
        tile = page.locator("article").nth(3)
        await tile.get_by_text("Last lines of its log").click()

        await expect(page.locator(".slot")).to_have_count(4)
        await expect(page.locator("article").first).to_contain_text("61.4 tokens/s")
        await expect(tile.locator(".badge")).to_have_text("broken")
        await expect(tile).to_contain_text("Restarts3")
        await expect(tile.locator("pre")).to_contain_text("out of memory")


async def test_engines_are_looked_at_again(page: Page) -> None:
    system = scene()
    async with served(system) as server:
        await page.clock.install()
        await visit(page, server, "engines")
        await expect(page.locator("article")).to_have_count(4)
        system.rows = system.rows[:1]
        await page.clock.run_for(3000)

        await expect(page.locator("article")).to_have_count(1)


async def test_presets_show_what_they_are_made_of(page: Page) -> None:
    async with served(scene()) as server:
        await visit(page, server, "presets")
        tiles = page.locator("article")

        await expect(tiles.first).to_contain_text("default")
        await expect(tiles.first).to_contain_text("qwen3-4b (a member too)")
        await expect(tiles.nth(1)).to_contain_text("granite-4.1-3b \u00d7 3")
        await expect(page.get_by_text("Alibaba Cloud")).to_be_visible()
        await page.get_by_role("link", name="Ask quick").click()
        await expect(page.get_by_label("Ask", exact=True)).to_have_value("localfusion/quick")


async def test_evaluations_show_their_verdicts_and_reports(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALFUSION_CACHE", str(tmp_path))
    async with served(scene()) as server:
        await visit(page, server, "evaluations")
        await expect(page.get_by_text("localfusion eval run small")).to_be_visible()
        kept(tmp_path / "evals", "one", results(60, text=HOSTILE))
        kept(tmp_path / "evals", "two", results(20), is_finished=False)
        await page.reload()
        await expect(page.get_by_text("go on with --resume")).to_be_visible()
        await page.get_by_role("link", name="one", exact=True).click()
        await expect(page.get_by_text("On these 60 tasks")).to_be_visible()
        await expect(page.locator("table").first).to_contain_text("oracle")
        await expect(page.locator("table").nth(1)).to_contain_text("fuse − best")
        await page.locator("summary").first.click()

        await expect(page.locator("details pre").first).to_contain_text("<script>")
        assert await page.locator("details img").count() == 0


async def test_policies_of_the_page_are_those_of_the_server(page: Page) -> None:
    async with served(gateway()) as server:
        await visit(page, server)
        names = await page.evaluate(
            "async () => Object.keys((await import('/static/options.js')).POLICIES)"
        )

    assert set(names) == set(POLICIES)


async def test_key_is_asked_for_and_kept_in_memory_alone(page: Page, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "own" / "keys.json")
    secret = keys.create("ann", "use")
    async with served(gateway(), access=Access(keys=keys)) as server:
        await page.goto(server.url)
        await expect(
            page.get_by_role("heading", name="This server needs an API key")
        ).to_be_visible()
        await page.get_by_label("API key").fill("lf-wrong")
        await page.get_by_role("button", name="Use this key").click()
        await expect(page.get_by_role("heading", name="does not know this key")).to_be_visible()
        await page.get_by_label("API key").fill(secret)
        await page.get_by_role("button", name="Use this key").click()
        await expect(page.get_by_label("Ask", exact=True)).to_have_value("localfusion/trio")
        await ask(page)
        await wait_for_end(page)
        await expect(answer(page)).to_contain_text("They cost 8 euros in all.")

        kept = (
            "() => [document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage)]"
        )
        assert await page.evaluate(kept) == ["", "{}", "{}"]
        await page.reload()
        await expect(
            page.get_by_role("heading", name="This server needs an API key")
        ).to_be_visible()


async def test_key_can_be_typed_in_from_any_view(page: Page, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "own" / "keys.json")
    secret = keys.create("ann", "use")
    async with served(scene(), access=Access(keys=keys)) as server:
        await page.goto(f"{server.url}/#/presets")
        await expect(page.get_by_role("alert")).to_be_visible()
        await page.get_by_role("button", name="API key").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("API key").fill(secret)
        await dialog.get_by_label("API key").press("Enter")

        await expect(page.get_by_role("heading", name="quality")).to_be_visible()
        await expect(dialog).to_be_hidden()


async def test_server_that_is_gone_is_told(page: Page) -> None:
    async with served(gateway()) as server:
        await visit(page, server)
    await ask(page)

    await expect(page.get_by_role("alert")).to_contain_text("the server does not answer")
