"""``/v1/engines`` and ``/v1/reload``: the engines seen and steered while the server runs."""

from dataclasses import asdict

from fastapi import APIRouter, Depends

from localfusion.overview import EngineRow
from localfusion.server.access import require_admin
from localfusion.server.gateway import Gateway


def engine_routes(gateway: Gateway) -> APIRouter:
    """Build the routes that list, load and unload engines, and reload models.yaml."""
    router = APIRouter()

    @router.get("/v1/engines")
    async def list_engines() -> dict[str, object]:
        """Say what each engine does now, which runs wait for engines, and what is amiss."""
        return {
            "object": "list",
            "data": [_entry(row) for row in await gateway.look()],
            "queue": [asdict(waiting) for waiting in gateway.queue],
            "notes": list(gateway.notes),
        }

    @router.post("/v1/engines/{name}/load", dependencies=[Depends(require_admin)])
    async def load(name: str) -> dict[str, object]:
        """Return when the engine is ready."""
        await gateway.load(name)
        return {"engine": name, "phase": gateway.phases()[name].phase}

    @router.post("/v1/engines/{name}/unload", dependencies=[Depends(require_admin)])
    async def unload(name: str) -> dict[str, object]:
        """Let its calls end, stop it, and refuse requests for it until it is loaded again."""
        await gateway.unload(name)
        phases = gateway.phases()
        return {"engine": name, "phase": phases[name].phase if name in phases else "stopped"}

    @router.post("/v1/reload", dependencies=[Depends(require_admin)])
    async def reload() -> dict[str, object]:
        """Read models.yaml again and swap what changed; an invalid file changes nothing."""
        return {"changes": list(await gateway.reload())}

    return router


def _entry(row: EngineRow) -> dict[str, object]:
    stats = row.stats
    return asdict(row.state) | {
        "roles": list(row.roles),
        "device": row.device,
        "memory_bytes": {"planned": row.planned_bytes, "actual": row.actual_bytes},
        "kv_cache_usage": stats.kv_cache_usage if stats else None,
        "running": stats.running if stats else None,
        "waiting": stats.waiting if stats else None,
        "tokens_per_second": row.tokens_per_second,
        "unload_seconds": row.unload_seconds,
    }
