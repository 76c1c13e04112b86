"""``GET /v1/models``: presets, the hosted service's slugs, and models, each under its own name."""

from collections.abc import Iterator

from fastapi import APIRouter

from localfusion.config import SLUG_PREFIX, Preset
from localfusion.fusion.fusion import HOSTED_FAST_SLUG, HOSTED_SLUG
from localfusion.server.gateway import Gateway


def model_routes(gateway: Gateway, created: int) -> APIRouter:
    """Build the model routes; ``created``, seconds since 1970, is what every entry says."""
    router = APIRouter()

    @router.head("/v1/models", include_in_schema=False)
    @router.get("/v1/models")
    async def list_models() -> dict[str, object]:
        entries = [_entry(gateway, name, created) for name in _names(gateway)]
        return {"object": "list", "data": entries}

    @router.head("/v1/models/{name:path}", include_in_schema=False)
    @router.get("/v1/models/{name:path}")
    async def retrieve_model(name: str) -> dict[str, object]:
        return _entry(gateway, name, created)

    return router


def _names(gateway: Gateway) -> Iterator[str]:
    yield from (SLUG_PREFIX + name for name in gateway.fusion.presets)
    yield from (HOSTED_SLUG, HOSTED_FAST_SLUG)
    yield from gateway.fusion.engines
    yield from gateway.fusion.aliases


def _entry(gateway: Gateway, name: str, created: int) -> dict[str, object]:
    resolved, preset = gateway.fusion.resolve(name)
    engines = gateway.fusion.engines
    spec = gateway.settings.models.get(resolved)
    is_model = resolved not in gateway.fusion.presets
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": spec.origin if is_model and spec else "localfusion",
        "kind": "model" if is_model else "preset",
        "preset": None if is_model else resolved,
        "max_model_len": min(engines[model].facts.max_model_len for model in preset.models),
        "license": spec.license if is_model and spec else None,
        **({} if is_model else _made_of(preset)),
    }


def _made_of(preset: Preset) -> dict[str, object]:
    """Tell how a preset answers; a member that is sampled twice stands twice in its panel."""
    return {
        "description": preset.description,
        "policy": preset.policy,
        "panel": [member.model for member in preset.panel for _ in range(member.n)],
        "judge": preset.judge,
    }
