"""Why an answer is what it is: where its sentences stand in the drafts, and what replays change."""

from localfusion.explain.causes import Cause, Trial
from localfusion.explain.explain import Explanation, explain
from localfusion.explain.form import to_json

__all__ = ["Cause", "Explanation", "Trial", "explain", "to_json"]
