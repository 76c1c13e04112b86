"""A model's shape from its public config.json: which layers, how many parameters.

Families are told apart by what their configs say (``kv_lora_rank``, ``layer_types``, experts, Mamba
sizes), rarely by name; an attention model that says nothing unusual is plain grouped-query
attention, which is an upper bound for any kind of attention. What is no attention and not known
here is refused: it could take more.
"""

from localfusion.shape.read import is_tied, read_architecture

__all__ = ["is_tied", "read_architecture"]
