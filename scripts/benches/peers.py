"""``scripts/bench peers``: localfusion, OptiLLM's moa and a plain script on the very same engine.

One model answers three times and judges, for that is what moa does. Sampling and token limits are
equal, and the question asks for more than the limit; what writes the answer may not end before it
(moa's may, which takes no such wish): texts are equally long, and no luck with lengths decides.
Each arm and round has a question of its own, of the same length: no arm finds another's prompt in
the cache. Two of the arms compare the drafts before they write and two do not: the bars stand
between arms that do the same work, the other ratios are shown beside.
"""

import asyncio
import statistics
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benches.peers_arms import Arm, Reply, localfusion_arm, optillm_arm, plain_arm
from benches.peers_meter import Counts, read_counts
from benches.peers_relay import Relay
from benches.peers_servers import (
    JUDGE_TEMPERATURE,
    PANEL_TEMPERATURE,
    SAMPLES,
    VERSION,
    PeerError,
    derive,
    end_tokens,
    localfusion_server,
    optillm_server,
)
from benches.table import Row
from localfusion.config import Config

OURS, PLAIN_OURS = "localfusion", "localfusion, analysis: none"
AFTER = f"{PLAIN_OURS}, prefill: false"
MOA, PLAIN = f"OptiLLM {VERSION} moa", "plain script"
PAIRS = ((OURS, MOA),)
"""Arms that do the same work: drafts compared before the answer."""
SHOWN = ((PLAIN_OURS, PLAIN), (OURS, PLAIN), (PLAIN_OURS, MOA), (PLAIN_OURS, AFTER))
"""Drafts that are cut at the same token, all of one model, leave nobody to wait for: the first of
these is what marks and rules in the judge's prompt cost. ``peers_lengths`` has the bar."""

QUESTION = (
    "Case {number}. A small town wants fewer cars in its center. Write a report of a thousand "
    "words on what it can do, what each measure costs and how it works."
)
WARM_TOKENS = 16
ARM_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Run:
    """One question in one arm: what its client saw, and the work behind it."""

    reply: Reply
    counts: Counts

    @property
    def figures(self) -> dict[str, float]:
        """Every figure that is compared, by its heading."""
        return {
            "first s": self.reply.first,
            "wall s": self.reply.seconds,
            "prompt": self.counts.prompt_tokens,
            "cached": self.counts.cached_tokens,
            "completion": self.counts.completion_tokens,
            "calls": self.counts.requests,
            "judge": self.reply.judge_calls,
        }


@dataclass(slots=True)
class Record:
    """What an arm did in all rounds; after a failure it is asked no more."""

    runs: list[Run] = field(default_factory=list)
    failure: str = ""

    @property
    def medians(self) -> dict[str, float]:
        if self.failure or not self.runs:
            return {}
        columns = [run.figures for run in self.runs]
        return {name: statistics.median(run[name] for run in columns) for name in columns[0]}


async def measure(loaded: Config, *, rounds: int, model: str, max_tokens: int) -> list[Row]:
    """Ask every arm once a round, the order rotated; print the table and return the bars."""
    _say_setting(rounds, model, max_tokens)
    with tempfile.TemporaryDirectory(prefix="lf") as name:
        folder = Path(name)
        async with localfusion_server(derive(loaded, model, max_tokens), folder) as url:
            socket = find_socket(folder, model)
            relay = Relay(socket, max_tokens)
            async with _open_arms(url, relay, model, folder) as (arms, records):
                for number in range(rounds + 1):  # the first is not counted
                    await _one_round(arms, records, socket, number, max_tokens)
    for line in table(records):
        print(line, flush=True)
    return bars(records)


def _say_setting(rounds: int, model: str, max_tokens: int) -> None:
    print(
        f"  {rounds} rounds of {QUESTION.format(number='nnnn')!r}\n"
        f"  panel: {SAMPLES} x {model}, temperature {PANEL_TEMPERATURE}; judge: the same model, "
        f"{JUDGE_TEMPERATURE}; both are moa's own\n"
        f"  each text of each arm has at most {max_tokens} tokens, moa's critique too, for which "
        "it asks 512; localfusion's\n"
        "  comparison comes before the answer in one call and has a limit of its own on top\n"
        "  tokens and calls of the peers are from the engine's replies, where samples of a call "
        "share one prompt; those of\n"
        "  localfusion from the engine's counters: every sample has a prompt, and what is cut or "
        "read ahead counts too",
        flush=True,
    )


@asynccontextmanager
async def _open_arms(
    url: str, relay: Relay, model: str, folder: Path
) -> AsyncGenerator[tuple[dict[str, Arm], dict[str, Record]], None]:
    """Yield the arms that can be asked, and a record for each arm."""
    records = {name: Record() for name in (OURS, MOA, PLAIN_OURS, PLAIN, AFTER)}
    async with AsyncExitStack() as stack:
        engine_url = await stack.enter_async_context(relay.listen())
        ends = end_tokens(model)
        presets = {OURS: "peers", PLAIN_OURS: "plain", AFTER: "after"}
        arms = {name: localfusion_arm(url, preset, ends) for name, preset in presets.items()}
        arms[PLAIN] = plain_arm(engine_url, relay, model, ends)
        try:
            peer = await stack.enter_async_context(optillm_server(engine_url, folder))
            arms[MOA] = optillm_arm(peer, relay, model)
        except PeerError as error:
            records[MOA].failure = str(error)
        yield arms, records


async def _one_round(
    arms: dict[str, Arm], records: dict[str, Record], socket: Path, number: int, max_tokens: int
) -> None:
    """Ask every arm that still works; round 0 warms up and leaves only failures behind."""
    names = [name for name in records if name in arms]
    for place in range(len(names)):
        name = names[(place + number) % len(names)]
        record = records[name]
        if record.failure:
            continue
        question = ask_about(number * len(names) + place)
        limit = max_tokens if number else min(WARM_TOKENS, max_tokens)
        try:
            run = await one_run(arms[name], socket, question, limit)
        except PeerError as error:
            record.failure = str(error)
            continue
        if number:
            record.runs.append(run)
            told = ", ".join(f"{what} {value:.4g}" for what, value in run.figures.items())
            print(
                f"  {number}. {name}: {told}{run.reply.note and '; ' + run.reply.note}", flush=True
            )


async def one_run(arm: Arm, socket: Path, question: str, max_tokens: int) -> Run:
    """Ask one arm once the engine is idle; count its work.

    Raises:
        PeerError: there is no answer; says why.
    """
    before = await read_counts(socket)
    failure: BaseException | None = None
    try:
        async with asyncio.timeout(ARM_SECONDS):
            reply = await arm(question, max_tokens)
    except* PeerError as group:
        failure = group.exceptions[0]
    except* TimeoutError:
        failure = PeerError(f"no answer in {ARM_SECONDS:g} s")
    if failure is not None:
        raise PeerError(str(failure))
    return Run(reply, reply.counts or await read_counts(socket) - before)


def find_socket(folder: Path, model: str) -> Path:
    """Return an engine's socket in the run directory of the gateway that runs in ``folder``."""
    return next(folder.glob(f"localfusion-*/{model[:40]}.sock"))


def ask_about(number: int) -> str:
    """Return a question that differs from its kin from the first words on, as long as they are."""
    return QUESTION.format(number=1000 + 37 * number)


def table(records: dict[str, Record]) -> list[str]:
    """Return medians side by side, and the ratio of every pair."""
    lines = []
    for name, record in records.items():
        cells = "".join(f"{value:11.4g}" for value in record.medians.values())
        lines.append(f"  {name:52}{cells or '  failed: ' + record.failure}")
    for ours, theirs in (*PAIRS, *SHOWN):
        cells = "".join(f"{value:11.2f}" for value in ratios(records, ours, theirs).values())
        lines.append(f"  {ours} / {theirs:{49 - len(ours)}}{cells or '  no figure'}")
    heads = next((record.medians for record in records.values() if record.medians), {})
    return [f"  {'medians, then ratios':52}" + "".join(f"{head:>11}" for head in heads), *lines]


def ratios(records: dict[str, Record], ours: str, theirs: str) -> dict[str, float]:
    """Return our median over theirs by figure, nan where theirs is 0; empty after a failure."""
    if ours not in records or theirs not in records:
        return {}
    mine, other = records[ours].medians, records[theirs].medians
    if not mine or not other:
        return {}
    return {name: mine[name] / other[name] if other[name] else float("nan") for name in mine}


def bars(records: dict[str, Record]) -> list[Row]:
    """Return a bar for both times of every pair of equals; a failed arm misses it."""
    rows = []
    for ours, theirs in PAIRS:
        found = ratios(records, ours, theirs)
        for what, said in (("first s", "first token"), ("wall s", "wall time")):
            row = Row(f"{said}: {ours} / {theirs}", found.get(what, float("nan")), "x", 1.0)
            rows.append(row)
    return rows
