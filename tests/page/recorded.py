"""Runs whose traces the page shows."""

from collections.abc import Mapping

from localfusion.types import Message, Request
from tests.server.system import SimGateway, on_disk


async def record(
    system: SimGateway, question: str, changes: Mapping[str, object] | None = None
) -> str:
    """Run a request; return its trace's id, once it is on disk and its words can be searched."""
    preset = next(iter(system.settings.presets))
    request = Request(preset, (Message("user", question),), changes=changes or {})
    events = [event async for event in system.fusion.stream(request)]
    id = events[0].run_id
    await on_disk(system, id)
    return id
