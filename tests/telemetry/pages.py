"""What Prometheus reads from ``/metrics``, as numbers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from localfusion.server.app import create_app
from tests.server.system import SimGateway


@dataclass(frozen=True)
class Page:
    """All samples, by name and labels."""

    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def __call__(self, name: str, **labels: str) -> float:
        """Return one sample; 0 where there is none, as it does for whoever counts."""
        return self.samples.get((f"localfusion_{name}", frozenset(labels.items())), 0.0)

    def nonzero(self, name: str) -> dict[str, float]:
        """Return a family's samples by the values of their labels, without those that are 0."""
        found = {}
        for (sample, labels), value in self.samples.items():
            if sample == f"localfusion_{name}" and value:
                found[" ".join(text for _, text in sorted(labels))] = value
        return found

    @property
    def labels(self) -> Iterator[tuple[str, str]]:
        for _, labels in self.samples:
            yield from labels


def parse(text: str) -> Page:
    families = text_string_to_metric_families(text)
    return Page(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }
    )


async def scrape(system: SimGateway) -> Page:
    """Get ``/metrics`` of a gateway, in process."""
    transport = httpx2.ASGITransport(create_app(system))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return parse(response.text)
