"""Reads config.json into an `Architecture`."""

from collections.abc import Mapping

from localfusion.memory import Architecture
from localfusion.shape.figures import Figures, read_figures
from localfusion.shape.mixers import cache_layers
from localfusion.shape.parameters import count_parameters, feed_forward


def read_architecture(config: Mapping[str, object]) -> Architecture:
    """Read a model's shape from its config.json.

    A model that also sees images keeps its language model in ``text_config``: that alone counts.

    Raises:
        ValueError: a figure that is needed is missing or not understood; the message names it.
    """
    figures = read_figures(config)
    vocabulary = figures.number("vocab_size")
    embeddings = vocabulary * figures.hidden * (1 if _is_tied(figures) else 2)
    quantization, bits = _quantization(config)
    return Architecture(
        name=figures.name,
        layers=cache_layers(figures),
        hidden_size=figures.hidden,
        intermediate_size=feed_forward(figures)[1],
        vocab_size=vocabulary,
        max_position_embeddings=figures.number(
            "max_position_embeddings", "n_positions", "max_sequence_length", "model_max_length"
        ),
        parameters=embeddings + count_parameters(figures),
        embeddings=embeddings,
        heads=figures.heads,
        quantization=quantization,
        bits=bits,
    )


def is_tied(config: Mapping[str, object]) -> bool:
    """Whether head and embedding are one tensor."""
    return _is_tied(read_figures(config))


def _is_tied(figures: Figures) -> bool:
    return figures.flag("tie_word_embeddings")


def _quantization(config: Mapping[str, object]) -> tuple[str, float]:
    """Return the method, and the bits of a weight with its scales; 16 when it stays as it is."""
    given = config.get("quantization_config")
    if not isinstance(given, dict):
        return "", 16.0
    method = str(given.get("quant_method", ""))
    groups = given.get("config_groups")
    first: object = next(iter(groups.values()), None) if isinstance(groups, dict) else None
    weights = first.get("weights") if isinstance(first, dict) else None
    source = weights if isinstance(weights, dict) else given
    bits = source.get("num_bits", source.get("bits", source.get("w_bit")))
    if method == "mxfp4":
        return method, 4.25  # a scale of 8 bits for 32 weights
    if method in ("fp8", "fbgemm_fp8", "modelopt") or not isinstance(bits, int):
        bits = 8
    size = source.get("group_size", source.get("q_group_size", 128))
    size = size if isinstance(size, int) and size > 0 else 128
    # A scale of 16 bits for each group; zero points of as many bits as a weight.
    scales = 16 / size if bits < 8 else 0.16
    zeros = (
        bits / size if bits < 8 and (source.get("zero_point") or source.get("sym") is False) else 0
    )
    return method, bits + scales + zeros
