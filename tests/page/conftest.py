"""A real Chromium before a real gateway; whatever a page must never do fails its test."""

import os
import shutil
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    async_playwright,
    expect,
)

WAIT_SECONDS = 20
EXPECTED = "Failed to load resource"
"""What the console says of a status that the page then shows."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for all tests of a file: the browser lives in it; other files have their own."""
    return "asyncio"


def chromium() -> str:
    """Return Debian's Chromium; its headless shell starts and loads twice as fast.

    Raises:
        pytest.skip.Exception: it is not there, and this is no CI.
    """
    found = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if found is None and os.environ.get("CI") != "true":
        pytest.skip("there is no chromium, and scripts/browser could not install it")
    assert found is not None, "CI has no chromium; scripts/browser installs it"
    return found


@pytest.fixture(scope="module")
async def browser(anyio_backend: str) -> AsyncGenerator[Browser]:
    expect.set_options(timeout=WAIT_SECONDS * 1000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(),
            # Nothing but loopback has an address in this browser.
            args=["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )
        yield browser
        await browser.close()


@dataclass
class Watched:
    """What a page did that none of ours does."""

    faults: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))
        page.on("dialog", self._dialog)
        page.on("popup", lambda popup: self.faults.append(f"popup {popup.url}"))
        page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(EXPECTED):
            self.faults.append(f"console: {message.text}")

    async def _dialog(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog {dialog.message}")
        await dialog.dismiss()

    def _request(self, request: Request) -> None:
        if urlsplit(request.url).hostname != "127.0.0.1":
            self.faults.append(f"asked {request.url}")


@pytest.fixture
async def context(browser: Browser) -> AsyncGenerator[BrowserContext]:
    context = await browser.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(WAIT_SECONDS * 1000)
    yield context
    await context.close()


@pytest.fixture
async def page(context: BrowserContext) -> AsyncGenerator[Page]:
    """A new tab. Violations of the policy, errors, dialogs and foreign requests fail the test."""
    page = await context.new_page()
    watched = Watched()
    watched.watch(page)
    yield page
    assert watched.faults == []
