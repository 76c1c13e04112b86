"""What people do on the page, for all its tests."""

from typing import Protocol

from playwright.async_api import Locator, Page, expect


class HasAddress(Protocol):
    """A server, in this process or another."""

    @property
    def url(self) -> str: ...


async def visit(page: Page, server: HasAddress, view: str = "ask") -> None:
    """Open a view and wait until it stands."""
    await page.goto(f"{server.url}/#/{view}")
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    if view.startswith("ask"):
        await expect(page.get_by_label("Ask", exact=True)).not_to_have_value("")


async def ask(page: Page, question: str = "How many pens?") -> None:
    await page.get_by_label("Question").fill(question)
    await page.get_by_role("button", name="Ask", exact=True).click()


async def wait_for_end(page: Page) -> None:
    await expect(page.locator(".run.is-over")).to_be_attached()


def card(page: Page, number: int) -> Locator:
    """Return the card of a member; people count from one."""
    return page.locator(".panel article").nth(number - 1)


def answer(page: Page) -> Locator:
    return page.locator("section.answer")


def phase(page: Page) -> Locator:
    return page.locator(".phase")
