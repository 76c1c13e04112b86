"""The view in which one asks, in a real browser."""

from playwright.async_api import Page, expect

from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.types import Prompt
from tests.page.scene import QUESTION, scene
from tests.page.visits import answer, ask, card, phase, visit, wait_for_end
from tests.server.system import gateway, served


def stall_when_writing(prompt: Prompt) -> SimFailure | None:
    """Fall silent behind the first word of the answer."""
    return None if prompt.schema is not None else SimFailure("stall", at_token=1)


async def test_question_is_answered_in_the_page(page: Page) -> None:
    async with served(gateway()) as server:
        await visit(page, server)
        await ask(page)
        await wait_for_end(page)

        await expect(phase(page)).to_have_text("Answered by d, full")
        await expect(answer(page)).to_contain_text("They cost 8 euros in all.")
        await expect(answer(page).locator(".badge")).to_have_text("full")
        await expect(card(page, 1)).to_contain_text("Eighteen.")
        await expect(card(page, 3).locator(".state")).to_have_text("done")


async def test_members_are_seen_while_they_write(page: Page) -> None:
    slow = SimEngine("one two three", failure=SimFailure("stall", at_token=2))
    async with served(gateway(b=slow)) as server:
        await visit(page, server)
        await ask(page)

        await expect(card(page, 2).locator(".text").last).to_have_text("one two")
        await expect(card(page, 2).locator(".state")).to_have_text("writing")
        await expect(phase(page)).to_contain_text("2 of 3")
        await expect(answer(page)).to_be_hidden()


async def test_answer_is_seen_while_it_is_written(page: Page) -> None:
    judge = SimEngine("one two three", failure=stall_when_writing)
    async with served(gateway(d=judge)) as server:
        await visit(page, server)
        await ask(page)

        await expect(answer(page).locator(".is-answer")).to_have_text("one")
        await expect(phase(page)).to_have_text("d writes the answer")


async def test_stop_ends_the_run_everywhere(page: Page) -> None:
    slow = SimEngine("one two three", failure=SimFailure("stall", at_token=2))
    async with served(gateway(b=slow)) as server:
        await visit(page, server)
        await ask(page)
        await expect(card(page, 2)).to_contain_text("one two")
        await page.get_by_role("button", name="Stop").click()
        await server.gateway.wait_for_aborts("b")

        await expect(phase(page)).to_have_text("Stopped")
        await expect(card(page, 2).locator(".state")).to_have_text("stopped")
        await expect(page.get_by_role("button", name="Ask", exact=True)).to_be_focused()


async def test_failed_member_is_lost_in_plain_sight(page: Page) -> None:
    async with served(gateway(b=SimEngine(failure=SimFailure("refuse")))) as server:
        await visit(page, server)
        await ask(page)
        await wait_for_end(page)

        await expect(card(page, 2).locator(".state")).to_have_text("lost")
        await expect(card(page, 2)).to_contain_text("refuses connections")
        await expect(answer(page).locator(".badge")).to_have_text("degraded")
        await expect(page.get_by_label("Lost members")).to_contain_text("2 b")
        await expect(phase(page)).to_have_text("Answered by d, degraded, 1 lost")


async def test_judge_that_fails_is_told_and_a_member_answers(page: Page) -> None:
    async with served(gateway(d=SimEngine(failure=SimFailure("refuse")))) as server:
        await visit(page, server)
        await ask(page)
        await wait_for_end(page)

        await expect(answer(page).locator(".badge")).to_have_text("panel only")
        await expect(answer(page)).to_contain_text("Eighteen.")
        await expect(answer(page).locator(".why")).to_contain_text("refuses connections")


async def test_run_that_nobody_answers_says_why(page: Page) -> None:
    refusing = {name: SimEngine(failure=SimFailure("refuse")) for name in "abc"}
    async with served(gateway(engines=refusing)) as server:
        await visit(page, server)
        await ask(page)
        await wait_for_end(page)

        await expect(phase(page)).to_have_text("It failed")
        await expect(page.get_by_role("alert")).to_contain_text("all_panels_failed")
        await expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()


async def test_comparison_names_who_said_what(page: Page) -> None:
    async with served(scene()) as server:
        await visit(page, server)
        await ask(page, QUESTION)
        await wait_for_end(page)
        judging = page.locator("section.judging")
        await judging.get_by_role("button").first.click()

        await expect(judging).to_contain_text("24 euros: three packs of four")
        await expect(judging.get_by_role("heading", name="Blind spots")).to_be_visible()
        await expect(page.locator(".card.is-marked")).to_have_count(1)


async def test_options_reach_the_run(page: Page) -> None:
    async with served(gateway()) as server:
        await visit(page, server)
        await page.get_by_text("Options").click()
        await page.get_by_label("Judge").select_option("a")
        await page.get_by_label("Comparison").select_option("none")
        await ask(page)
        await wait_for_end(page)

        await expect(phase(page)).to_contain_text("Answered by a")
        await expect(page.locator("section.judging")).to_be_hidden()


async def test_single_model_answers_alone(page: Page) -> None:
    async with served(gateway()) as server:
        await visit(page, server)
        await page.get_by_label("Ask", exact=True).select_option("b")
        await page.get_by_text("Options").click()
        await expect(page.get_by_label("Policy")).to_be_disabled()
        await ask(page)
        await wait_for_end(page)

        await expect(answer(page)).to_contain_text("8 euros.")
        await expect(answer(page).locator(".badge")).to_have_text("single")
        await expect(page.locator("section.panel")).to_be_hidden()


async def test_answer_that_is_a_draft_says_whose(page: Page) -> None:
    system = gateway(a=SimEngine("8"), b=SimEngine("8"), preset={"policy": "vote", "options": {}})
    async with served(system) as server:
        await visit(page, server)
        await ask(page, "What is 4 times 2?")
        await wait_for_end(page)

        await expect(answer(page)).to_contain_text("Word for word what 1 a wrote.")


async def test_timeline_shows_who_was_waited_for(page: Page) -> None:
    async with served(scene(pace=0.002)) as server:
        await visit(page, server)
        await ask(page, QUESTION)
        await wait_for_end(page)
        timeline = page.locator("section.timeline")

        await expect(timeline.locator(".row.is-judge .label")).to_have_text("Judge qwen3-4b")
        await expect(timeline.locator(".row:not(.is-judge) .bar.is-path").first).to_be_visible()
        await expect(timeline.locator(".shares li").first).to_contain_text(
            "the panel, until enough"
        )
        await expect(timeline).to_contain_text("judge's prompts came from its cache")


async def test_run_goes_on_behind_other_views(page: Page) -> None:
    judge = SimEngine("one two three", failure=stall_when_writing)
    async with served(gateway(d=judge)) as server:
        await visit(page, server)
        await ask(page)
        await expect(answer(page)).to_contain_text("one")
        await page.get_by_role("link", name="Presets").click()
        await expect(page.get_by_role("heading", name="Presets", level=1)).to_be_focused()
        await page.get_by_role("link", name="Ask", exact=True).click()

        await expect(answer(page)).to_contain_text("one")
        await expect(page.get_by_role("button", name="Stop")).to_be_visible()


async def test_eight_members_stream_into_one_page(page: Page) -> None:
    text = " ".join(f"word{number}" for number in range(900))
    engines = {name: SimEngine(text, name=name, max_model_len=8192) for name in "abc"}
    preset = {"panel": [{"model": "a", "n": 4}, {"model": "b", "n": 4}], "panel_max_tokens": 4096}
    async with served(gateway(engines=engines, preset=preset)) as server:
        await visit(page, server)
        await ask(page)
        await wait_for_end(page)

        await expect(page.locator(".panel article")).to_have_count(8)
        for number in range(1, 9):
            await expect(card(page, number)).to_contain_text("word0 word1")
            await expect(card(page, number)).to_contain_text("characters are shown")
