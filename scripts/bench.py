"""Measurements behind the README's figures; see scripts/bench."""

import argparse
import asyncio
import sys
import time

from benches import first_answer, fusion, gateway, peers, peers_mixed, placement, start
from benches.table import machine

from localfusion import config


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench")
    kinds = parser.add_subparsers(dest="what", required=True)
    first = kinds.add_parser("first-answer", help="one prompt, one answer; memory, streaming")
    first.add_argument("--cold", action="store_true", help="also from an empty machine")
    kinds.add_parser("placement", help="planned cores against threads as vLLM takes them")
    against = kinds.add_parser("peers", help="OptiLLM's moa and a plain script, on our engines")
    against.add_argument("--rounds", type=int, default=3)
    against.add_argument("--model", default="qwen2.5-coder-0.5b", help="panel and judge")
    against.add_argument("--max-tokens", type=int, default=128, help="of each text")
    kinds.add_parser("fusion", help="reading ahead, stragglers, samples, verdicts, our own code")
    served = kinds.add_parser("gateway", help="our HTTP beside a bare echo, on simulated engines")
    served.add_argument("--requests", type=int, default=gateway.REQUESTS, help="for memory")
    kinds.add_parser("start", help="three engines' start, and one killed, until they serve")
    options = parser.parse_args()
    loaded = config.load()
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}", flush=True)
    match options.what:
        case "first-answer":
            rows = asyncio.run(first_answer.measure(loaded, cold=options.cold))
        case "placement":
            rows = asyncio.run(placement.measure(loaded))
        case "fusion":
            rows = asyncio.run(fusion.measure(loaded))
        case "peers":
            asked = {"rounds": options.rounds, "max_tokens": options.max_tokens}
            rows = asyncio.run(peers.measure(loaded, model=options.model, **asked))
            rows += asyncio.run(peers_mixed.measure(loaded, options.rounds))
        case "gateway":
            rows = asyncio.run(gateway.measure(options.requests))
        case _:
            rows = asyncio.run(start.measure(loaded))
    for row in rows:
        print(row)
    return int(any(not row.is_met for row in rows))


if __name__ == "__main__":
    sys.exit(main())
