"""The web page before real engines, in a real browser."""

import pytest
from playwright.async_api import async_playwright, expect

from tests.page.conftest import Watched, chromium
from tests.page.visits import answer, ask, card, visit
from tests.real.conftest import Server

RUN_SECONDS = 240

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]


async def test_question_is_watched_answered_and_replayed_without_a_member(server: Server) -> None:
    watched = Watched()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium())
        page = await browser.new_page()
        watched.watch(page)
        await visit(page, server)
        await page.get_by_label("Ask", exact=True).select_option("localfusion/demo")
        await ask(page, "Name the three primary colors.")
        is_writing = page.locator(".card[data-state=writing]").first
        await expect(is_writing).to_be_visible(timeout=RUN_SECONDS * 1000)
        await expect(page.locator(".run.is-over")).to_be_attached(timeout=RUN_SECONDS * 1000)

        await expect(card(page, 1).locator(".facts")).to_contain_text("tokens")
        await expect(answer(page).locator(".is-answer")).not_to_be_empty()
        await expect(answer(page).locator(".facts")).to_contain_text("tokens in")
        await expect(page.locator("section.timeline .bar.is-path").first).to_be_visible()
        await visit(page, server, "traces")
        await page.locator("a.trace").filter(has_text="primary colors").first.click()
        await expect(card(page, 1)).to_be_visible()
        replay = page.locator("section.replay")
        await replay.get_by_role("checkbox").first.check()
        await replay.get_by_role("button", name="Replay").click()
        replayed = replay.locator("article").filter(has_text="Replayed")
        await expect(replayed.locator(".text")).not_to_be_empty(timeout=RUN_SECONDS * 1000)
        await expect(replay.get_by_role("alert")).to_have_count(0)
        await visit(page, server, "engines")
        await expect(page.locator("article").first.locator(".badge")).to_have_text("ready")
        await expect(page.locator(".slot").first).to_contain_text("GiB")
        await browser.close()

    assert watched.faults == []
