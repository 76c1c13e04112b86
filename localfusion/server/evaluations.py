"""``/v1/evaluations``: the reports of ``localfusion eval run`` on this machine, for its owner."""

import asyncio
from dataclasses import asdict

from fastapi import APIRouter, Depends

from localfusion.evals.store import default_folder, read_report, summaries
from localfusion.server.access import require_admin
from localfusion.server.envelope import NotFoundError


def evaluation_routes() -> APIRouter:
    """Build the routes that list evaluations and give their reports."""
    router = APIRouter()

    @router.get("/v1/evaluations", dependencies=[Depends(require_admin)])
    async def list_evaluations() -> dict[str, object]:
        """List the evaluations in the default folder, youngest first, with their verdicts."""
        found = await asyncio.to_thread(summaries, default_folder())
        return {"object": "list", "data": [asdict(one) for one in found]}

    @router.get("/v1/evaluations/{name}", dependencies=[Depends(require_admin)])
    async def get_report(name: str) -> dict[str, object]:
        """Return an evaluation's report: verdict, arms, comparisons, flips, costs, identity."""
        report = await asyncio.to_thread(read_report, default_folder(), name)
        if report is None:
            raise NotFoundError(
                f"there is no finished evaluation {name[:64]!a}; see GET /v1/evaluations"
            )
        return report

    return router
