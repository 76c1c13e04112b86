"""Measurements behind the README's figures; see scripts/bench."""

import argparse
import asyncio
import sys
import time

from benches import (
    evaluation,
    first_answer,
    fusion,
    gateway,
    peers,
    peers_lengths,
    peers_mixed,
    placement,
    start,
    telemetry,
    traces,
)
from benches.table import Row, machine

from localfusion import config

PLAIN = {
    "eval": "samples a second of an evaluation, re-runs without the panel, statistics",
    "fusion": "reading ahead, stragglers, samples, verdicts, our own code",
    "page": "the web page while eight members stream into it",
    "placement": "planned cores against threads as vLLM takes them",
    "start": "three engines' start, and one killed, until they serve",
    "telemetry": "what metrics and spans add to a run",
}
"""What takes no option."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench")
    kinds = parser.add_subparsers(dest="what", required=True)
    first = kinds.add_parser("first-answer", help="one prompt, one answer; memory, streaming")
    first.add_argument("--cold", action="store_true", help="also from an empty machine")
    against = kinds.add_parser("peers", help="OptiLLM's moa and a plain script, on our engines")
    against.add_argument("--rounds", type=int, default=3)
    against.add_argument("--model", default="qwen2.5-coder-0.5b", help="panel and judge")
    against.add_argument("--max-tokens", type=int, default=128, help="of each text")
    served = kinds.add_parser("gateway", help="our HTTP beside a bare echo, on simulated engines")
    served.add_argument("--requests", type=int, default=gateway.REQUESTS, help="for memory")
    kept = kinds.add_parser("traces", help="what traces cost a request; lists and searches of many")
    kept.add_argument("--traces", type=int, default=traces.TRACES, help="for lists and searches")
    for name, about in PLAIN.items():
        kinds.add_parser(name, help=about)
    options = parser.parse_args()
    loaded = config.load()
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}", flush=True)
    rows = asyncio.run(_measure(options, loaded))
    for row in rows:
        print(row)
    return int(any(not row.is_met for row in rows))


async def _measure(options: argparse.Namespace, loaded: config.Config) -> list[Row]:
    match options.what:
        case "first-answer":
            return await first_answer.measure(loaded, cold=options.cold)
        case "eval":
            return await evaluation.measure(loaded)
        case "placement":
            return await placement.measure(loaded)
        case "fusion":
            return await fusion.measure(loaded)
        case "peers":
            asked = {"rounds": options.rounds, "max_tokens": options.max_tokens}
            rows = await peers.measure(loaded, model=options.model, **asked)
            rows += await peers_lengths.measure(
                loaded, rounds=2 * options.rounds, model=options.model
            )
            return rows + await peers_mixed.measure(loaded, options.rounds)
        case "telemetry":
            return await telemetry.measure()
        case "gateway":
            return await gateway.measure(options.requests)
        case "traces":
            return await traces.measure(options.traces)
        case "page":
            from benches import page  # its browser is for developers: scripts/install --dev

            return await page.measure()
        case _:
            return await start.measure(loaded)


if __name__ == "__main__":
    sys.exit(main())
