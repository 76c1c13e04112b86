"""A gateway worth looking at: five simulated models that answer a question at their own pace."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from localfusion.config import Settings
from localfusion.engines.base import EngineStats, EngineStatus
from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.engines.sim_latency import SimProfile
from localfusion.overview import EngineRow
from localfusion.types import Prompt
from tests.server.system import SimGateway

QUESTION = (
    "A shop sells pens at 3 euros, or 8 euros for four. I need 12 and have a voucher of 5 euros. "
    "What do I pay, and is the voucher worth keeping for later?"
)
DRAFTS = {
    "qwen3-4b": (
        "Buy three packs of four: 3 x 8 = 24 euros. With the voucher you pay 24 - 5 = 19 euros.\n\n"
        "Single pens would cost 12 x 3 = 36 euros, so packs save 12 euros.\n\n"
        "Keep the voucher only if it has no date of expiry and you will buy here again anyway: "
        "5 euros now are worth more than 5 euros perhaps."
    ),
    "granite-4.1-3b": (
        "The price of 12 pens is 12 x 3 = 36 euros. After the voucher it is 31 euros.\n\n"
        "Since the voucher is worth 5 euros in either case, use it now."
    ),
    "phi-4-mini": (
        "Let me compare both offers.\n\n- single: 3 euros per pen\n- pack of four: 2 euros\n\n"
        "12 pens are exactly three packs, so 24 euros, and 19 euros with the voucher. "
        "There is nothing to gain by waiting, unless the shop has a minimum purchase."
    ),
    "smollm3-3b": "Three packs of four cost 24 euros; minus 5 that is 19 euros. Use the voucher",
}
ANSWER = (
    "You pay **19 euros**: twelve pens are three packs of four, 3 x 8 = 24 euros, and the voucher "
    "takes off 5. Single pens would cost 36 euros, so the packs alone save 12.\n\n"
    "Use the voucher now. It is worth the same 5 euros on any purchase, and waiting only adds the "
    "risk that it expires or has a minimum. Keep it only if you know of a purchase on which it "
    "would count for more."
)
ANALYSIS = {
    "consensus": [
        "The voucher takes 5 euros off whatever is paid.",
        "Nothing is gained by keeping it in itself.",
    ],
    "contradictions": [
        {
            "topic": "What 12 pens cost before the voucher",
            "stances": [
                {"model": "A", "stance": "24 euros: three packs of four"},
                {"model": "B", "stance": "36 euros: twelve single pens"},
            ],
        }
    ],
    "partial_coverage": [
        {"models": ["A", "C"], "point": "A pack makes a pen a third cheaper than a single one."}
    ],
    "unique_insights": [{"model": "C", "insight": "A minimum purchase may forbid the voucher."}],
    "blind_spots": ["Whether the voucher can be used on packs at all."],
}
GIB = 2**30
SLOTS = {
    "qwen3-4b": (9.1, 8.4, ("member", "judge"), "gpu0"),
    "granite-4.1-3b": (7.2, 6.9, ("member",), "gpu0"),
    "phi-4-mini": (5.6, 5.1, ("member",), "gpu0"),
    "smollm3-3b": (3.8, 2.2, ("member",), "cpu 0-7"),
}


def judging(prompt: Prompt) -> str:
    """Compare under a schema; write otherwise."""
    if prompt.schema is not None:
        return json.dumps(ANALYSIS)
    is_asked_itself = not any("draft" in message.content.lower() for message in prompt.messages)
    return DRAFTS["qwen3-4b"] if is_asked_itself else ANSWER


@dataclass
class Scene(SimGateway):
    """Presets ``quality`` and ``quick``."""

    rows: Sequence[EngineRow] = ()
    remarks: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        return self.remarks

    async def look(self) -> tuple[EngineRow, ...]:
        return tuple(self.rows)


def engine_rows() -> tuple[EngineRow, ...]:
    rows = []
    for name, (planned, actual, roles, device) in SLOTS.items():
        is_broken = name == "smollm3-3b"
        state = EngineStatus(
            name,
            phase="broken" if is_broken else "ready",
            seconds=42.0 if is_broken else 5130.0,
            detail="died three times in a minute; next start in 58 s" if is_broken else "",
            restarts=3 if is_broken else 0,
            log=("RuntimeError: out of memory", "engine core died") if is_broken else (),
        )
        stats = None if is_broken else EngineStats(2, 1, 0.37, 90_210)
        rows.append(
            EngineRow(
                state,
                roles,
                device,
                planned_bytes=int(planned * GIB),
                actual_bytes=int(actual * GIB),
                stats=stats,
                tokens_per_second=None if is_broken else 61.4,
            )
        )
    return tuple(rows)


def scene(*, pace: float = 0.0) -> Scene:
    """Build the gateway.

    Args:
        pace: Seconds of a token of the fastest member; 0: everything at once.
    """
    slowness = {"qwen3-4b": 1.0, "granite-4.1-3b": 1.6, "phi-4-mini": 2.2, "smollm3-3b": 1.3}
    engines: Mapping[str, SimEngine] = {
        name: SimEngine(
            judging if name == "qwen3-4b" else text,
            name=name,
            max_model_len=16384,
            profile=SimProfile(
                prefill_overhead=pace * 4,
                prefill_per_token=pace / 40,
                inter_token=pace * slowness[name],
                num_blocks=8192,
            ),
            failure=SimFailure("die", at_token=12) if name == "smollm3-3b" else None,
        )
        for name, text in DRAFTS.items()
    }
    model = {"engine": "sim", "license": "Apache-2.0"}
    origins = ("Alibaba Cloud", "IBM", "Microsoft", "Hugging Face")
    settings = Settings.model_validate(
        {
            "default_preset": {"gpu": "quality", "cpu": "quality"},
            "models": {
                name: model | {"origin": origin}
                for name, origin in zip(engines, origins, strict=True)
            },
            "presets": {
                "quality": {
                    "description": "Four models of four makers, compared by the largest.",
                    "panel": list(engines),
                    "judge": "qwen3-4b",
                    "order": "fixed",  # so that the letters of ANALYSIS are whose they should be
                    "options": {"analysis": "separate"},
                },
                "quick": {
                    "description": "Three samples of one model.",
                    "policy": "self_fusion",
                    "panel": [{"model": "granite-4.1-3b", "n": 3}],
                    "judge": "granite-4.1-3b",
                },
            },
        }
    )
    remarks = ("qwen3-4b is a member and the judge: it grades its own draft.",)
    return Scene(engines, settings, rows=engine_rows(), remarks=remarks)
