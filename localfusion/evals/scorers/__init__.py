"""Scorers, one per file: what an answer is worth. The same extractor for every arm.

An answer in which nothing can be found is worth 0 and has ``extracted`` None, which reports count.
"""

from collections.abc import Callable, Iterable, Mapping

from localfusion.config import nearest
from localfusion.errors import ConfigError
from localfusion.evals.samples import Scorer, ScoringModel
from localfusion.evals.scorers.code import CodeScorer
from localfusion.evals.scorers.exact import ChoiceScorer, NumberScorer, TextScorer
from localfusion.evals.scorers.facts import FactsScorer
from localfusion.evals.scorers.generated import GeneratedScorer
from localfusion.evals.scorers.pair import PairScorer
from localfusion.evals.scorers.rubric import RubricScorer

_NO_MODEL = (
    "open answers are graded by a model of models.yaml that is neither judge nor member; name it: "
    "--scoring-model NAME"
)
_EXACT: Mapping[str, Callable[[], Scorer]] = {
    "number": NumberScorer,
    "choice": ChoiceScorer,
    "text": TextScorer,
    "generated": GeneratedScorer,
    "code": CodeScorer,
    "facts": FactsScorer,
}
_GRADED: Mapping[str, Callable[[ScoringModel], Scorer]] = {
    "rubric": RubricScorer,
    "pair": PairScorer,
}


def check_scorers(names: Iterable[str], *, has_model: bool) -> None:
    """Refuse, before anything is loaded, what ``create_scorer`` would refuse.

    Raises:
        ConfigError: a scorer needs a scoring model, and there is none.
    """
    if not has_model and any(name in _GRADED for name in names):
        raise ConfigError(_NO_MODEL)


def create_scorer(name: str, scoring: ScoringModel | None = None) -> Scorer:
    """Return a scorer.

    Args:
        name: Of one of this folder.
        scoring: The model that grades, for scorers of open answers.

    Raises:
        ConfigError: there is no such scorer, or it needs a scoring model and gets none.
    """
    if name in _EXACT:
        return _EXACT[name]()
    if name not in _GRADED:
        raise ConfigError(f"there is no scorer {name!r}; {nearest(name, (*_EXACT, *_GRADED))}")
    if scoring is None:
        raise ConfigError(_NO_MODEL)
    return _GRADED[name](scoring)
