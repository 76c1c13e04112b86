"""For everybody: checked by axe, by keyboard alone, on narrow screens, without motion."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from tests.evals.made_up import HOSTILE, kept, results
from tests.page.recorded import record
from tests.page.scene import QUESTION, scene
from tests.page.test_hostile import FITS
from tests.page.visits import answer, ask, phase, visit, wait_for_end
from tests.server.system import Served, gateway, served, traced

VIEWS = ("ask", "traces", "trace", "engines", "presets", "evaluations", "evaluation")


@pytest.fixture(autouse=True)
def evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a report whose texts are as bad as texts can be."""
    monkeypatch.setenv("LOCALFUSION_CACHE", str(tmp_path / "cache"))
    kept(tmp_path / "cache" / "evals", "one", results(60, text=HOSTILE))


async def open_view(page: Page, server: Served, view: str) -> None:
    """Open a view with as much in it as there can be."""
    id = await record(server.gateway, QUESTION)
    places = {"trace": f"trace/{id}", "evaluation": "evaluations/one"}
    await visit(page, server, places.get(view, view))
    if view == "ask":
        await page.get_by_text("Options").click()
        await ask(page, QUESTION)
        await wait_for_end(page)
    elif view == "trace":
        await page.get_by_role("button", name="Replay").click()
        await expect(page.locator("section.replay article").first).to_be_visible()
    elif view == "evaluation":
        await expect(page.locator("table").first).to_be_visible()
    else:
        await expect(page.locator("article, a.trace, .rows a").first).to_be_visible()


async def faults(page: Page) -> Sequence[str]:
    """Return what axe finds, with where it is."""
    results = await Axe().run(page)
    return [
        f"{found['id']}: {node['target']} {node.get('failureSummary', '')}"
        for found in results.response["violations"]
        for node in found["nodes"]
    ]


@pytest.mark.parametrize("view", VIEWS)
async def test_view_is_accessible_in_both_colors(page: Page, view: str, tmp_path: Path) -> None:
    async with traced(tmp_path, scene()) as server:
        await open_view(page, server, view)
        await page.emulate_media(color_scheme="light")
        light = await faults(page)
        await page.emulate_media(color_scheme="dark")
        dark = await faults(page)

    assert light == []
    assert dark == []


@pytest.mark.parametrize("view", VIEWS)
async def test_narrow_screen_needs_no_sideways_scrolling(
    page: Page, view: str, tmp_path: Path
) -> None:
    await page.set_viewport_size({"width": 360, "height": 740})
    async with traced(tmp_path, scene()) as server:
        await open_view(page, server, view)

        assert await page.evaluate(FITS)


async def test_one_can_ask_and_read_by_keyboard_alone(page: Page) -> None:
    async with served(gateway()) as server:
        await visit(page, server)
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await expect(page.get_by_label("Question")).to_be_focused()
        await page.keyboard.type("How many pens?")
        await page.keyboard.press("Control+Enter")
        await wait_for_end(page)
        await page.get_by_role("button", name="To the answer").focus()
        await page.keyboard.press("Enter")

        await expect(answer(page).get_by_role("heading")).to_be_focused()
        await expect(answer(page)).to_be_in_viewport()


async def test_focus_is_seen_on_everything_that_takes_it(page: Page, tmp_path: Path) -> None:
    async with traced(tmp_path, scene()) as server:
        await open_view(page, server, "trace")
        await page.locator(".brand").focus()
        seen = 0
        while await page.evaluate("() => document.activeElement !== document.body"):
            await page.keyboard.press("Tab")
            style = await page.evaluate(
                "() => { const s = getComputedStyle(document.activeElement);"
                " return [document.activeElement.tagName, s.outlineStyle]; }"
            )
            assert style[0] == "BODY" or style[1] != "none", style
            seen += 1

    assert seen > 20


async def test_phases_are_announced_politely(page: Page) -> None:
    async with served(gateway()) as server:
        await visit(page, server)
        await ask(page)
        await wait_for_end(page)

        await expect(page.get_by_role("status").filter(has_text="Answered by d")).to_be_visible()
        await expect(phase(page)).to_have_attribute("role", "status")
        await expect(answer(page)).to_have_attribute("aria-busy", "false")


async def test_nothing_moves_where_motion_is_unwanted(page: Page) -> None:
    await page.emulate_media(reduced_motion="reduce")
    async with served(gateway()) as server:
        await visit(page, server)
        await ask(page)
        name = await phase(page).evaluate(
            "(element) => getComputedStyle(element, '::before').animationName"
        )

    assert name == "none"
