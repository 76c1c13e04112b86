"""One sample for inspect_ai: whether answer and usage are read."""

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate


@task
def tiny() -> Task:
    # What the simulated engine says; a real one is told to.
    sample = Sample("Say exactly: A simulated answer.", target="A simulated answer")
    return Task([sample], solver=generate(), scorer=includes())
