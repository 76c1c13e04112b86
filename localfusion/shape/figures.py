"""The figures of one config.json: its language part, with what its family leaves out."""

from collections.abc import Mapping
from dataclasses import dataclass

_LEFT_OUT: dict[str, dict[str, object]] = {
    "Gemma": {"tie_word_embeddings": True},
    "Gemma2": {"sliding_window_pattern": 2},
    "Gemma3": {
        "head_dim": 256,
        "max_position_embeddings": 131072,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "sliding_window_pattern": 6,
        "vocab_size": 262208,
    },
    "Cohere": {"tie_word_embeddings": True},
    "Cohere2": {"sliding_window_pattern": 4},
    "FalconForCausalLM": {"tie_word_embeddings": True},
    "GPT2": {"tie_word_embeddings": True},
}
"""By the start of the architecture's name: what published configs leave to the default.

Source: transformers 5.19, the families' configuration classes.
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """Values of one config.json.

    Attributes:
        name: First of ``architectures``.
    """

    name: str
    values: Mapping[str, object]

    def number(self, *keys: str, otherwise: int | None = None) -> int:
        """Return the first of some keys that holds a whole number, not below 0.

        Raises:
            ValueError: none does, and there is no ``otherwise``; it names the first.
        """
        for key in keys:
            value = self.values.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                return value
        if otherwise is None:
            raise ValueError(f"no usable {keys[0]}")
        return otherwise

    def flag(self, key: str, *, otherwise: bool = False) -> bool:
        """Return a boolean."""
        value = self.values.get(key)
        return value if isinstance(value, bool) else otherwise

    def text(self, key: str) -> str:
        """Return a string, empty when there is none."""
        value = self.values.get(key)
        return value if isinstance(value, str) else ""

    def entries(self, key: str) -> tuple[str, ...]:
        """Return a list's entries as strings, none when there is no list."""
        value = self.values.get(key)
        return tuple(map(str, value)) if isinstance(value, list) else ()

    @property
    def hidden(self) -> int:
        return self.number("hidden_size", "n_embd")

    @property
    def layers(self) -> int:
        return self.number("num_hidden_layers", "n_layer")

    @property
    def heads(self) -> int:
        return self.number("num_attention_heads", "n_head")

    @property
    def head_dim(self) -> int:
        return self.number("head_dim", "attention_head_dim", otherwise=self.hidden // self.heads)

    @property
    def kv_heads(self) -> int:
        if self.flag("multi_query") and not self.flag("new_decoder_architecture"):
            return 1
        return self.number("num_key_value_heads", "num_kv_heads", otherwise=self.heads)


def read_figures(config: Mapping[str, object]) -> Figures:
    """Read a config.json; of a model that also sees images the language part, ``text_config``."""
    names = config.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else "unknown"
    values: dict[str, object] = {}
    for start, left_out in _LEFT_OUT.items():
        if name.startswith(start):
            values |= left_out
    nested = config.get("text_config")
    return Figures(name, {**values, **config, **(nested if isinstance(nested, dict) else {})})
