"""``/metrics`` in Prometheus' text format, and how late the event loop is."""

import asyncio

from fastapi import APIRouter, Depends, Response

from localfusion.server.access import require_admin
from localfusion.server.gateway import Gateway
from localfusion.telemetry import CONTENT_TYPE
from localfusion.telemetry.http import HttpMetrics

LAG_SECONDS = 1.0
"""Between two looks at the event loop."""

_EXAMPLE = 'localfusion_runs_total{preset="demo",status="full"} 12.0\n'


class MetricsResponse(Response):
    media_type = CONTENT_TYPE


def metrics_routes(gateway: Gateway) -> APIRouter:
    """Build the route that Prometheus reads; with keys it takes one of scope admin."""
    router = APIRouter()
    page = {"description": "Every series.", "content": {CONTENT_TYPE: {"example": _EXAMPLE}}}

    @router.get(
        "/metrics",
        dependencies=[Depends(require_admin)],
        response_class=MetricsResponse,
        responses={200: page},
    )
    async def metrics() -> Response:
        """Tell all series in Prometheus' text format; no content, no name from a request."""
        return MetricsResponse(await gateway.telemetry.page())

    return router


async def watch_loop(http: HttpMetrics) -> None:
    """Measure how late the event loop wakes timers, until cancelled."""
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + LAG_SECONDS
        await asyncio.sleep(LAG_SECONDS)
        http.lagged(max(0.0, clock() - due))
