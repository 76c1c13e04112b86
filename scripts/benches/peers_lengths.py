"""``scripts/bench peers``, second part: drafts as long as they come out, beside the plain script.

Answers to one question differ in length, also those of one model. The plain script waits for the
longest; localfusion, with its defaults, gives whoever is late a quarter of the time that the others
took, and its judge reads what there is by then. The answer itself runs to its limit in both, so
that no luck with its length decides. Every round has a question of its own; both get it with the
same seeds, so that most drafts are the same texts, and in turns, so that neither always finds the
question in the cache.
"""

import tempfile
from pathlib import Path

from benches.peers import Run, find_socket, one_run
from benches.peers_arms import localfusion_arm, plain_arm
from benches.peers_relay import Relay
from benches.peers_servers import SAMPLES, derive, end_tokens, localfusion_server
from benches.table import Row
from localfusion.config import Config

OURS, PLAIN = "localfusion", "plain script"
QUESTIONS = (
    "Case {number}. Why do leaves turn red in autumn? Explain it to a child.",
    "Case {number}. A train leaves at 9:40 and arrives at 13:05. How long does it take? Show how.",
    "Case {number}. Write a Python function that returns the second largest number of a list.",
    "Case {number}. Give me three ideas for a cheap birthday party, with a sentence for each.",
    "Case {number}. What is the difference between weather and climate?",
    "Case {number}. Write a short letter that asks a landlord to repair a window.",
)
DRAFT_TOKENS = 384
"""Longer than nearly all of these drafts."""
ANSWER_TOKENS = 96
SEED = 20_261


async def measure(loaded: Config, *, rounds: int, model: str) -> list[Row]:
    """Ask both ways once a round, in turns; return the ratios of all rounds together."""
    print(
        f"  drafts as long as they come out, up to {DRAFT_TOKENS} tokens: {SAMPLES} x {model}; "
        f"the answer to {ANSWER_TOKENS} tokens",
        flush=True,
    )
    runs: dict[str, list[Run]] = {OURS: [], PLAIN: []}
    with tempfile.TemporaryDirectory(prefix="lf") as name:
        folder = Path(name)
        derived = derive(loaded, model, DRAFT_TOKENS)
        derived["presets"]["plain"]["panel"][0]["seed"] = SEED
        async with localfusion_server(derived, folder) as url:
            socket = find_socket(folder, model)
            relay = Relay(socket, DRAFT_TOKENS)
            async with relay.listen() as engine_url:
                ends = end_tokens(model)
                arms = {
                    OURS: localfusion_arm(url, "plain", ends),
                    PLAIN: plain_arm(
                        engine_url, relay, model, ends, draft_tokens=DRAFT_TOKENS, seed=SEED
                    ),
                }
                for number in range(rounds + 1):  # the first is not counted
                    for name in [OURS, PLAIN][:: 1 if number % 2 else -1]:
                        run = await one_run(arms[name], socket, ask_about(number), ANSWER_TOKENS)
                        if number:
                            runs[name].append(run)
                            _tell(number, name, run)
    return [_row("first token", "first s", runs), _row("wall time", "wall s", runs)]


def ask_about(number: int) -> str:
    """Return a round's question, told apart from the others at its beginning."""
    return QUESTIONS[number % len(QUESTIONS)].format(number=1000 + 37 * number)


def _tell(number: int, name: str, run: Run) -> None:
    figures = ", ".join(f"{what} {value:.4g}" for what, value in run.figures.items())
    note = run.reply.note and "; " + run.reply.note
    print(f"  {number}. {name}: {figures}{note}", flush=True)


def _row(said: str, figure: str, runs: dict[str, list[Run]]) -> Row:
    mine, theirs = (sum(run.figures[figure] for run in runs[name]) for name in (OURS, PLAIN))
    return Row(f"{said}: {OURS} / {PLAIN}, drafts of their own length", mine / theirs, "x", 1.0)
