"""The list of traces, one trace, and its replay."""

from contextlib import aclosing
from pathlib import Path

from playwright.async_api import Page, expect

from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.types import Message, Request
from tests.page.recorded import record
from tests.page.scene import QUESTION, scene
from tests.page.visits import answer, card, visit
from tests.server.system import gateway, served, stalled, traced


async def test_traces_are_listed_newest_first(page: Page, tmp_path: Path) -> None:
    async with traced(tmp_path, scene()) as server:
        for place in range(3):
            await record(server.gateway, f"{place}: {QUESTION}")
        await visit(page, server, "traces")

        rows = page.locator("a.trace")
        await expect(rows).to_have_count(3)
        await expect(rows.first).to_contain_text("2: A shop sells pens")
        await expect(rows.first).to_contain_text("degraded")
        await expect(page.get_by_text("3 traces.")).to_be_visible()


async def test_older_traces_come_when_they_are_wanted(page: Page, tmp_path: Path) -> None:
    async with traced(tmp_path) as server:
        for place in range(62):
            await record(server.gateway, f"Question {place}")
        await visit(page, server, "traces")
        older = page.get_by_role("button", name="Show older ones")
        await expect(page.locator("a.trace")).to_have_count(30)
        await older.click()
        await expect(page.locator("a.trace")).to_have_count(60)
        await older.click()

        await expect(page.locator("a.trace")).to_have_count(62)
        await expect(page.locator("a.trace").last).to_contain_text("Question 0")
        await expect(older).to_be_hidden()


async def test_filters_stand_in_the_address(page: Page, tmp_path: Path) -> None:
    async with traced(tmp_path, scene()) as server:
        await record(server.gateway, "About pens")
        await record(server.gateway, "About cows")
        await visit(page, server, "traces")
        await page.get_by_label("Search").fill("cows")
        await page.get_by_label("Search").press("Enter")
        await expect(page.locator("a.trace")).to_have_count(1)
        await page.get_by_label("Status").select_option("degraded")
        await expect(page).to_have_url(f"{server.url}/#/traces?q=cows&status=degraded")
        await page.reload()

        await expect(page.get_by_label("Search")).to_have_value("cows")
        await expect(page.locator("a.trace")).to_have_count(1)
        await page.get_by_label("Status").select_option("failed")
        await expect(page.get_by_text("No trace is like that.")).to_be_visible()


async def test_server_without_traces_says_so(page: Page) -> None:
    async with served(gateway()) as server:
        await visit(page, server, "traces")
        await expect(page.get_by_text("There is no trace yet")).to_be_visible()
        await page.goto(f"{server.url}/#/trace/0123")

        await expect(page.get_by_text("There is no trace 0123")).to_be_visible()


async def test_trace_shows_the_run_as_it_was(page: Page, tmp_path: Path) -> None:
    async with traced(tmp_path, scene(pace=0.001)) as server:
        await record(server.gateway, QUESTION, {"partial": "drop"})
        await visit(page, server, "traces")
        await page.locator("a.trace").click()

        await expect(answer(page)).to_contain_text("You pay **19 euros**")
        await expect(card(page, 2)).to_contain_text("36 euros")
        await expect(card(page, 4).locator(".state")).to_have_text("lost")
        await expect(page.locator("section.judging")).to_contain_text("three packs of four")
        await expect(page.locator("section.timeline .row.is-judge")).to_be_visible()
        await expect(page.get_by_text('partial: "drop"')).to_be_visible()


async def test_failed_trace_says_why(page: Page, tmp_path: Path) -> None:
    refusing = {name: SimEngine(failure=SimFailure("refuse")) for name in "abc"}
    async with traced(tmp_path, gateway(engines=refusing)) as server:
        id = await record(server.gateway, "How many pens?")
        await visit(page, server, f"trace/{id}")

        await expect(page.locator(".note.is-bad")).to_contain_text("refuses connections")
        await expect(card(page, 1).locator(".state")).to_have_text("lost")


async def test_running_trace_can_be_looked_at_again(page: Page, tmp_path: Path) -> None:
    async with traced(tmp_path, gateway(d=stalled())) as server:
        request = Request("trio", (Message("user", "How many pens?"),))
        async with aclosing(server.gateway.fusion.stream(request)) as events:
            started = await anext(events)
            await server.gateway.wait_for_calls("d")
            await visit(page, server, f"trace/{started.run_id}")
            await expect(page.locator(".badge").first).to_have_text("running")
            await expect(answer(page)).to_be_hidden()
        assert not await server.gateway.traces.delete("0" * 32)  # comes behind all that happened
        await page.get_by_role("button", name="Look again").click()

        await expect(page.locator(".badge").first).to_have_text("interrupted")


async def test_trace_without_texts_says_so(page: Page, tmp_path: Path) -> None:
    async with traced(tmp_path, scene(), content="none") as server:
        await record(server.gateway, QUESTION)
        await visit(page, server, "traces")
        await expect(page.locator("a.trace")).to_contain_text("content is not kept")
        await page.locator("a.trace").click()

        await expect(page.get_by_text("The server kept no texts of it")).to_be_visible()
        await expect(card(page, 1).locator(".facts")).to_contain_text("74 tokens")
        await expect(page.get_by_role("heading", name="Replay")).to_have_count(0)


async def test_two_candidates_are_compared_word_by_word(page: Page, tmp_path: Path) -> None:
    system = gateway(a=SimEngine("The cat sat."), b=SimEngine("The dog sat."))
    async with traced(tmp_path, system) as server:
        await visit(page, server, f"trace/{await record(system, 'Who sat?')}")
        differences = page.get_by_label("Differences")

        await expect(differences).to_have_text("The catdog sat.")
        await expect(differences.locator("del")).to_have_text("cat")
        await expect(differences.locator("ins")).to_have_text("dog")
        await page.get_by_label("To", exact=True).select_option(label="the answer")
        await expect(differences.locator("ins")).to_contain_text("They cost")


async def test_trace_is_replayed_without_a_member(page: Page, tmp_path: Path) -> None:
    async with traced(tmp_path, scene()) as server:
        id = await record(server.gateway, QUESTION)
        asked = len(server.gateway.engines["phi-4-mini"].calls)
        await visit(page, server, f"trace/{id}")
        replay = page.locator("section.replay")
        await replay.get_by_label("Judge").select_option("granite-4.1-3b")
        await replay.get_by_label("2 granite-4.1-3b").check()
        await replay.get_by_role("button", name="Replay").click()

        await expect(replay.get_by_role("heading", name="Replayed")).to_be_visible()
        await expect(replay).to_contain_text("After the voucher it is 31 euros.")
        await expect(replay.get_by_label("Differences").locator("del").first).to_be_visible()
        assert len(server.gateway.engines["phi-4-mini"].calls) == asked
        await replay.get_by_role("link", name="The replay's own trace").click()

        await expect(page.get_by_text('judge: "granite-4.1-3b"')).to_be_visible()
        await expect(page.get_by_text("drop: [1]")).to_be_visible()
        await page.get_by_role("link", name=id).click()
        await expect(answer(page)).to_contain_text("You pay **19 euros**")


async def test_replay_that_is_refused_says_why(page: Page, tmp_path: Path) -> None:
    async with traced(tmp_path, scene()) as server:
        await visit(page, server, f"trace/{await record(server.gateway, QUESTION)}")
        replay = page.locator("section.replay")
        for box in await replay.get_by_role("checkbox").all():
            await box.check()
        await replay.get_by_role("button", name="Replay").click()

        await expect(replay.get_by_role("alert")).to_contain_text("leave one of the candidates in")


async def test_sentences_are_traced_to_the_drafts_that_say_them(page: Page, tmp_path: Path) -> None:
    system = gateway(
        a=SimEngine("A cow has four legs."), b=SimEngine("A cow has four legs."),
        c=SimEngine("A cow has six legs."), d=SimEngine("A cow has four legs. Ships sail."),
        preset={"options": {"analysis": "none"}, "order": "fixed"},
    )  # fmt: skip
    async with traced(tmp_path, system) as server:
        await visit(page, server, f"trace/{await record(system, 'Legs?')}")
        rows = page.locator(".sentences li")

        await expect(rows).to_have_count(2)
        await expect(rows.first.locator(".who")).to_contain_text("1 a, 2 b; otherwise in 3 c")
        await expect(rows.last.locator(".who")).to_have_text("in no draft")
        await rows.first.locator("summary").click()
        await expect(rows.first).to_contain_text("A cow has six legs.")


async def test_cause_of_a_wrong_answer_is_found(page: Page, tmp_path: Path) -> None:
    """The judge copies what stands first, whatever that is."""
    system = gateway(
        a=SimEngine("Answer: 9"), b=SimEngine("Answer: 8"), c=SimEngine("Answer: 8"),
        d=SimEngine("Answer: 9"), preset={"options": {"analysis": "none"}},
    )  # fmt: skip
    async with traced(tmp_path, system) as server:
        await visit(page, server, f"trace/{await record(system, 'How many? Give a number.')}")
        section = page.locator("section.explain")
        await section.get_by_label("The right answer").fill("8")
        await section.get_by_role("button", name="Find the cause").click()

        await expect(section.locator(".note")).to_contain_text("The judge")
        await expect(section.locator(".note li").first).to_contain_text("2 of 3 drafts")
