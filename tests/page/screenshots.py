"""Take the pictures of the page that docs/ shows; see scripts/screenshots.

They are of simulated engines that play a scene: the page is real, the answers are written by us.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from PIL import Image
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.page.conftest import WAIT_SECONDS, chromium
from tests.page.recorded import record
from tests.page.scene import QUESTION, Scene, scene
from tests.page.visits import answer, ask, visit, wait_for_end
from tests.server.system import Served, traced

WIDTH, HEIGHT, NARROW = 1200, 860, 390
COLORS = 128
"""Of the palette: letters stay smooth, and a picture takes a third of the bytes."""
PACE = 0.012

Scheme = Literal["light", "dark"]
Shot = Callable[[Page, Served], Awaitable[bytes]]


async def asked(page: Page, server: Served) -> bytes:
    await visit(page, server)
    await ask(page, QUESTION)
    await wait_for_end(page)
    await page.mouse.move(0, 0)
    return await page.screenshot(full_page=True)


async def writing(page: Page, server: Served) -> bytes:
    await visit(page, server)
    await ask(page, QUESTION)
    await expect(answer(page)).to_contain_text("Single pens")
    return await page.screenshot()


async def trace(page: Page, server: Served) -> bytes:
    await visit(page, server, f"trace/{await record(server.gateway, QUESTION)}")
    await expect(page.get_by_label("Differences")).to_be_visible()
    await expect(page.locator("section.replay").get_by_label("Judge")).to_be_visible()
    return await page.screenshot(full_page=True)


async def engines(page: Page, server: Served) -> bytes:
    await visit(page, server, "engines")
    await expect(page.locator("article").first).to_be_visible()
    return await page.screenshot(full_page=True)


SHOTS: Mapping[str, tuple[Shot, Scheme, int]] = {
    "ask": (asked, "light", WIDTH),
    "ask-dark": (asked, "dark", WIDTH),
    "narrow": (writing, "dark", NARROW),
    "trace": (trace, "light", WIDTH),
    "engines": (engines, "dark", WIDTH),
}


async def take(browser: Browser, name: str, folder: Path) -> None:
    """Write one picture, with a palette."""
    shot, scheme, width = SHOTS[name]
    size = {"width": width, "height": HEIGHT}
    system: Scene = scene(pace=PACE)
    with TemporaryDirectory() as state:
        async with (
            await browser.new_context(color_scheme=scheme, viewport=size) as context,  # type: ignore[arg-type]  # its own TypedDict
            traced(Path(state), system) as server,
        ):
            taken = await shot(await context.new_page(), server)
    with Image.open(BytesIO(taken)) as image:
        palette = image.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
        palette.save(folder / f"{name}.png", optimize=True)


async def main(folder: Path) -> None:
    expect.set_options(timeout=WAIT_SECONDS * 1000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium())
        for name in SHOTS:
            await take(browser, name, folder)
            print(f"{folder / name}.png", flush=True)  # noqa: T201  a script's output
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
