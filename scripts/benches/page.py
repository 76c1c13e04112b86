"""Whether the web page stays usable while eight members stream into it, in headless Chromium.

The server is a process of its own; the browser draws without a graphics card.
"""

import json
import shutil

from playwright.async_api import Page, Route, async_playwright

from benches.gateway import serving
from benches.table import Row

GAP = 1 / 60
"""Seconds between two tokens of a member."""
SECONDS = 10
TOKENS = 2000
"""More than a member can say in that time."""
PANEL = ({"model": "a", "n": 4}, {"model": "b", "n": 4})

_WATCH = """() => {
    window.gaps = [];
    window.tasks = [0];
    let last = performance.now();
    const next = (now) => { gaps.push(now - last); last = now; requestAnimationFrame(next); };
    requestAnimationFrame(next);
    const note = (list) => tasks.push(...list.getEntries().map((entry) => entry.duration));
    new PerformanceObserver(note).observe({ type: 'longtask' });
}"""
_READ = """() => {
    const sorted = gaps.slice(5).sort((a, b) => a - b);
    const written = [...document.querySelectorAll('.card .text:not(.is-thought)')];
    return {
        gap: sorted[Math.floor(sorted.length * 0.95)],
        task: Math.max(...tasks),
        characters: Math.min(...written.map((one) => one.textContent.length)),
    };
}"""


async def measure() -> list[Row]:
    """Return the figures of one run.

    Raises:
        FileNotFoundError: there is no Chromium.
    """
    path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if path is None:
        raise FileNotFoundError("there is no chromium; scripts/browser installs it")
    async with async_playwright() as playwright, serving("ours", GAP) as server:
        browser = await playwright.chromium.launch(executable_path=path)
        page = await browser.new_page()
        await page.route("**/v1/chat/completions", _ask_eight)
        await page.goto(f"http://127.0.0.1:{server.port}/")
        found = await _watch(page)
        await browser.close()
    what = "eight members at 60 tokens/s each"
    return [
        Row(f"{what}: 95th of the gaps between frames", found["gap"], "ms", 100),
        Row(f"{what}: longest task", found["task"], "ms", 200),
        Row("characters of each that were seen", found["characters"], "", 1000, at_least=True),
    ]


async def _watch(page: Page) -> dict[str, float]:
    await page.locator("select option").first.wait_for(state="attached")
    await page.get_by_label("Question").fill("What do pens cost?")
    await page.evaluate(_WATCH)
    await page.get_by_role("button", name="Ask", exact=True).click()
    await page.wait_for_timeout(SECONDS * 1000)
    return {name: float(value) for name, value in (await page.evaluate(_READ)).items()}


async def _ask_eight(route: Route) -> None:
    body = json.loads(route.request.post_data or "{}")
    body["fusion"] |= {"panel": PANEL, "max_completion_tokens": TOKENS}
    await route.continue_(post_data=body)
