"""Events survive the way to a client and back."""

import json

import pytest

from localfusion import wire
from localfusion.engines.sim import SimEngine
from localfusion.errors import QuorumError
from localfusion.events import RunFailed
from tests.fusion.conftest import FusionFactory, events_of, fusion

__all__ = ["fusion"]

pytestmark = pytest.mark.virtual_time


async def test_every_event_of_a_run_comes_back_as_it_was(fusion: FusionFactory) -> None:
    events = await events_of(fusion(a=SimEngine("8"), b=SimEngine(""), c=SimEngine("9")))

    sent = [json.dumps(wire.encode(event)) for event in events]

    assert [wire.decode(json.loads(text)) for text in sent] == events


async def test_text_of_an_event_is_its_object(fusion: FusionFactory) -> None:
    events = await events_of(fusion(a=SimEngine("8"), b=SimEngine(""), c=SimEngine("\n\u20ac")))

    assert [json.loads(wire.dump(event)) for event in events] == [wire.encode(e) for e in events]


async def test_names_are_the_hosted_ones(fusion: FusionFactory) -> None:
    events = await events_of(fusion(a=SimEngine("8"), b=SimEngine("9")))

    names = {wire.encode(event)["type"] for event in events}

    assert {
        f"response.fusion_call.{n}" for n in ("panel.added", "panel.delta", "completed")
    } <= names


def test_a_failure_is_no_event_on_the_wire() -> None:
    with pytest.raises(KeyError):
        wire.encode(RunFailed(error=QuorumError("nobody")))


@pytest.mark.parametrize("fields", [{}, {"type": "x"}, {"type": "response.fusion_call.completed"}])
def test_what_is_no_event_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"unknown event|validation error"):
        wire.decode(fields)
