"""What vLLM's Prometheus page says of an engine. Pure."""

import re

from localfusion.engines.base import EngineStats
from localfusion.errors import EngineError

_SERIES = re.compile(r"^vllm:(\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
# Labels hold whatever the engine's configuration does, braces too; a quote in them is escaped.
_CACHE_CONFIG = re.compile(r"^vllm:cache_config_info\{(.*)\} \S+$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def parse_stats(engine: str, metrics: str) -> EngineStats:
    """Read the series of a moment.

    Raises:
        EngineError: they are not there.
    """
    values: dict[str, float] = {}
    for name, value in _SERIES.findall(metrics):
        values[name] = values.get(name, 0.0) + float(value)
    try:
        return EngineStats(
            running=int(values["num_requests_running"]),
            waiting=int(values["num_requests_waiting"]),
            kv_cache_usage=values["kv_cache_usage_perc"],
            generated_tokens=int(values.get("generation_tokens_total", 0)),
        )
    except KeyError as error:
        raise EngineError(
            f"{engine} has no series vllm:{error.args[0]}; it is no vLLM server",
            code="stats_unsupported",
        ) from error


def parse_block_size(metrics: str) -> int:
    """Return the tokens of a block of the prefix cache, 0 if it is off or nothing is said of it."""
    config = _CACHE_CONFIG.search(metrics)
    labels = dict(_LABEL.findall(config[1])) if config else {}
    size = labels.get("block_size", "")
    is_off = labels.get("enable_prefix_caching") == "False"
    return int(size) if size.isdecimal() and not is_off else 0
