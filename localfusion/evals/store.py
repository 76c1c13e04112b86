"""An evaluation's folder: what was planned, asked and answered. Append-only: crashes cost little.

``plan.json`` and ``dataset.json`` are written before the first call; ``recordings.jsonl``,
``outcomes.jsonl`` and ``live.jsonl`` get a line for each finished piece of work. A torn last line,
from a crash while it was written, is dropped.
"""

import fcntl
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from localfusion.config import cache_dir
from localfusion.durable import write_whole
from localfusion.errors import EvaluationError
from localfusion.evals.results import Live, Outcome, Plan, Recording, Results
from localfusion.evals.samples import Dataset, Json

PLAN, DATASET, REPORT, PAGE = "plan.json", "dataset.json", "report.json", "report.html"
RECORDINGS, OUTCOMES, LIVE = "recordings.jsonl", "outcomes.jsonl", "live.jsonl"
COUNTS = "counts.jsonl"
_PLAN = TypeAdapter(Plan)
_DATASET = TypeAdapter(Dataset)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Counts:
    """Engine calls that a finished piece made; what went wrong, and what is to be known of it."""

    panel_calls: int = 0
    judge_calls: int = 0
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def default_folder() -> Path:
    """Where evaluations are kept unless told otherwise."""
    return cache_dir() / "evals"


@dataclass(slots=True)
class Lines(Generic[T]):
    """Values in a file, a line of JSON each."""

    file: Path
    adapter: TypeAdapter[T]

    def read(self) -> list[T]:
        """Return all whole lines.

        Raises:
            EvaluationError: a line that is not the last cannot be read; names it.
        """
        return [value for _, value in self._whole()]

    def mend(self) -> None:
        """Cut a torn last line off, so that the next one begins on a line of its own."""
        if not self.file.exists():
            return
        end = max((end for end, _ in self._whole()), default=0)
        with self.file.open("rb+") as stream:
            stream.truncate(end)

    def append(self, value: T) -> None:
        """Add a line; what was added survives the death of this process."""
        with self.file.open("ab", buffering=0) as stream:
            stream.write(self.adapter.dump_json(value) + b"\n")

    def _whole(self) -> Iterator[tuple[int, T]]:
        if not self.file.exists():
            return
        end, number = 0, 0
        with self.file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if not line.endswith(b"\n"):
                    return
                end += len(line)
                try:
                    yield end, self.adapter.validate_json(line)
                except ValidationError as error:
                    place = ".".join(map(str, error.errors()[0]["loc"]))
                    raise EvaluationError(
                        f"{self.file}:{number}: {place or 'line'}: {error.errors()[0]['msg']}; "
                        "restore the file, or run the evaluation anew"
                    ) from error


@dataclass(slots=True)
class Store:
    """The folder of one evaluation.

    Attributes:
        folder: Exists.
        recordings, outcomes, live, counts: Its growing files.
    """

    folder: Path
    recordings: Lines[Recording] = field(init=False)
    outcomes: Lines[Outcome] = field(init=False)
    live: Lines[Live] = field(init=False)
    counts: Lines[Counts] = field(init=False)

    def __post_init__(self) -> None:
        self.recordings = Lines(self.folder / RECORDINGS, TypeAdapter(Recording))
        self.outcomes = Lines(self.folder / OUTCOMES, TypeAdapter(Outcome))
        self.live = Lines(self.folder / LIVE, TypeAdapter(Live))
        self.counts = Lines(self.folder / COUNTS, TypeAdapter(Counts))

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Keep other processes out of the folder.

        Raises:
            EvaluationError: another one is at work in it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise EvaluationError(
                    f"another process is at work in {self.folder}; wait for it, or stop it"
                ) from error
            yield

    def begin(self, plan: Plan, dataset: Dataset) -> None:
        """Write what is planned, before the first call; or go on with the same plan.

        Raises:
            EvaluationError: the folder has another plan; says what differs.
        """
        if (self.folder / PLAN).exists():
            self._check(plan)
            (self.folder / REPORT).unlink(missing_ok=True)  # of what was there before
            for lines in (self.recordings, self.outcomes, self.live, self.counts):
                lines.mend()
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / DATASET, _DATASET.dump_json(dataset))
        write_whole(self.folder / PLAN, _PLAN.dump_json(plan, indent=2))

    def _check(self, plan: Plan) -> None:
        planned = json.loads((self.folder / PLAN).read_text())
        wanted = json.loads(_PLAN.dump_json(plan))
        different = [key for key in wanted if planned.get(key) != wanted[key]]
        if different:
            raise EvaluationError(
                f"{self.folder} was begun with another plan ({', '.join(different)} differ); ask "
                "for the same, or leave --resume out to begin anew"
            )

    def read(self) -> Results:
        """Return all that has been found so far.

        Raises:
            EvaluationError: this is no evaluation's folder, or a file of it is damaged.
        """
        plan, dataset = self._read(PLAN, _PLAN), self._read(DATASET, _DATASET)
        counts = self.counts.read()
        problems = dict.fromkeys(problem for count in counts for problem in count.problems)
        return Results(
            plan=plan,
            dataset=dataset,
            recordings=tuple(self.recordings.read()),
            outcomes=tuple(self.outcomes.read()),
            live=tuple(self.live.read()),
            panel_calls=sum(count.panel_calls for count in counts),
            judge_calls=sum(count.judge_calls for count in counts),
            problems=tuple(problems),
            notes=tuple(dict.fromkeys(note for count in counts for note in count.notes)),
        )

    def _read(self, name: str, adapter: TypeAdapter[T]) -> T:
        file = self.folder / name
        try:
            return adapter.validate_json(file.read_bytes())
        except FileNotFoundError as error:
            raise EvaluationError(
                f"{self.folder} is no evaluation: it has no {name}; see localfusion eval list"
            ) from error
        except ValidationError as error:
            place = ".".join(map(str, error.errors()[0]["loc"]))
            raise EvaluationError(
                f"{file}: {place}: {error.errors()[0]['msg']}; it is damaged, run anew"
            ) from error

    def write_report(self, report: Json, page: str) -> None:
        """Write both forms of the report, each in one step."""
        told = json.dumps(report, ensure_ascii=False, indent=1)
        write_whole(self.folder / REPORT, told.encode())
        write_whole(self.folder / PAGE, page.encode())


def read_results(folder: Path) -> Results:
    """Return what an evaluation has found so far.

    Raises:
        EvaluationError: there is none, or it is damaged.
    """
    return Store(folder).read()


def new_folder(parent: Path, what: str, preset: str) -> Path:
    """Return the name of a folder that does not exist yet."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    base = _UNSAFE.sub("-", f"{what}-{preset}-{stamp}")
    names = (base, *(f"{base}-{number}" for number in range(2, 1000)))
    return next(parent / name for name in names if not (parent / name).exists())


def newest(parent: Path, plan: Plan) -> Path:
    """Return the folder of the youngest unfinished evaluation of the same plan.

    Raises:
        EvaluationError: there is none.
    """
    wanted = json.loads(_PLAN.dump_json(plan))
    for folder in folders(parent):
        if (folder / REPORT).exists():
            continue
        if json.loads((folder / PLAN).read_text()) == wanted:
            return folder
    raise EvaluationError(
        f"nothing to resume: {parent} has no unfinished evaluation of this suite, preset and plan; "
        "leave --resume out"
    )


def folders(parent: Path) -> Sequence[Path]:
    """Return the folders of all evaluations, youngest first."""
    found = parent.glob(f"*/{PLAN}") if parent.is_dir() else ()
    return [file.parent for file in sorted(found, key=lambda f: f.stat().st_mtime, reverse=True)]


@dataclass(frozen=True, slots=True)
class Summary:
    """One evaluation in a list.

    Attributes:
        name: Of its folder.
        created: When it began, in seconds since 1970.
        verdict: Its plain sentence; where it is unfinished or damaged, that.
    """

    name: str
    suite: str
    preset: str
    samples: int
    created: int
    is_finished: bool
    verdict: str


def summaries(parent: Path) -> list[Summary]:
    """Return what a list tells of each evaluation, youngest first; a damaged one says so."""
    return [_summary(folder) for folder in folders(parent)]


def _summary(folder: Path) -> Summary:
    created = int((folder / PLAN).stat().st_mtime)
    try:
        plan = json.loads((folder / PLAN).read_text())
        suite, preset = str(plan["suite"]), str(plan["preset"])
        if not (folder / REPORT).exists():
            count = len(json.loads((folder / DATASET).read_text())["samples"])
            told = "unfinished; go on with --resume"
            return Summary(folder.name, suite, preset, count, created, False, told)
        report = json.loads((folder / REPORT).read_text())
        told = str(report["verdict"]["sentence"])
        return Summary(folder.name, suite, preset, int(report["n"]), created, True, told)
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = f"damaged: {type(error).__name__}; run it anew"
        return Summary(folder.name, "", "", 0, created, False, told)


def read_report(parent: Path, name: str) -> Json | None:
    """Return the report of a finished evaluation; None where there is none of this name."""
    known = {folder.name: folder for folder in folders(parent)}
    if name not in known or not (known[name] / REPORT).exists():
        return None
    told = json.loads((known[name] / REPORT).read_text())
    return told if isinstance(told, dict) else None


def find_folder(parent: Path, name: str) -> Path:
    """Return an evaluation's folder by its path, its name, or ``latest``.

    Raises:
        EvaluationError: there is none.
    """
    if name == "latest" and (known := folders(parent)):
        return known[0]
    for folder in (Path(name), parent / name):
        if (folder / PLAN).is_file():
            return folder
    raise EvaluationError(f"there is no evaluation {name!r}; see localfusion eval list")
