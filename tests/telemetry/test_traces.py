"""Series of the writer of traces: what waits, what it took, what was lost."""

from pathlib import Path

from tests.server.system import gateway, served, traced
from tests.telemetry.pages import scrape


async def test_writer_tells_what_it_wrote(tmp_path: Path) -> None:
    system = gateway()
    async with traced(tmp_path, system) as server:
        before = await scrape(system)
        await server.openai.chat.completions.create(
            model="trio", messages=[{"role": "user", "content": "How many pens?"}]
        )
        page = await scrape(system)

    assert before("trace_commits_total") < page("trace_commits_total")
    assert page("trace_commit_seconds_total") > 0
    assert page("trace_events_lost_total") == 0
    assert page("traces_kept") == 1


async def test_where_nobody_writes_nothing_waits() -> None:
    async with served(gateway()) as server:
        page = await scrape(server.gateway)

    assert page("trace_queue_events") == page("trace_commits_total") == 0
