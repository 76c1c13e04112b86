"""Which engine gets which share of the hardware, decided before anything is loaded. Pure.

An engine needs ``weights + KV cache + activations + CUDA graphs + context``; on each device the sum
over the engines that are resident together must fit into what is free there when the plan is made.
What is an estimate says so.
"""

from collections.abc import Mapping, Sequence

from localfusion.errors import PlacementError
from localfusion.hardware import Hardware
from localfusion.placement.fit import first_fit
from localfusion.placement.needs import (
    ALL_STEPS,
    BLOCK,
    DEFAULT_MAX_MODEL_LEN,
    DEFAULT_MAX_NUM_BATCHED_TOKENS,
    DEFAULT_MAX_NUM_SEQS,
    GIB,
    Demand,
    ModelNeed,
    PresetNeed,
    Role,
    Step,
    gib,
)
from localfusion.placement.remedies import explain
from localfusion.placement.slots import MEMORY, Plan, Share, Slot

__all__ = [
    "ALL_STEPS",
    "BLOCK",
    "DEFAULT_MAX_MODEL_LEN",
    "DEFAULT_MAX_NUM_BATCHED_TOKENS",
    "DEFAULT_MAX_NUM_SEQS",
    "GIB",
    "MEMORY",
    "ModelNeed",
    "Plan",
    "PresetNeed",
    "Role",
    "Share",
    "Slot",
    "Step",
    "gib",
    "plan",
]


def plan(
    needs: Sequence[ModelNeed],
    presets: Mapping[str, PresetNeed],
    hardware: Hardware,
    fit: Sequence[Step] = ALL_STEPS,
) -> Plan:
    """Divide the hardware among the models; GPUs if there are any, else cores and memory.

    Args:
        needs: Each model that runs here, once; their order does not matter.
        presets: What they are for; names no other models.
        hardware: Real or imagined.
        fit: What may be done, in this order, when not all fits at once: let a member judge
            (``share_judge``), take fewer and shorter requests (``context``), load panel and judge
            in turns (``phases``).

    Raises:
        PlacementError: they do not fit; says by how much, and what would.
    """
    for need in needs:
        if need.max_model_len > need.window:
            raise PlacementError(
                f"{need.name}: max_model_len {need.max_model_len} is more than the {need.window} "
                "tokens that the model was made for; lower it in models.yaml"
            )
    demand = Demand.of(needs, presets)
    fit = tuple(dict.fromkeys(fit))
    found = first_fit(demand, hardware, fit)
    if found is None:
        raise PlacementError(explain(demand, hardware, fit))
    return found
