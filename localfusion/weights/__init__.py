"""Weights: pull them, keep them, prove that they are what was pulled, and read their figures.

`pull` brings models here, `resolve` gives the folder of one that may be loaded, `read_facts` its
figures for planning. Only safetensors without code of their own are ever handed to an engine.
"""

from localfusion.weights.facts import ModelFacts, read_facts
from localfusion.weights.manifest import FileEntry, Manifest
from localfusion.weights.progress import PullListener, PullPhase, PullProgress
from localfusion.weights.pull import pull
from localfusion.weights.remove import remove
from localfusion.weights.store import ModelFiles, ModelStatus, find_status, resolve, verify

__all__ = [
    "FileEntry",
    "Manifest",
    "ModelFacts",
    "ModelFiles",
    "ModelStatus",
    "PullListener",
    "PullPhase",
    "PullProgress",
    "find_status",
    "pull",
    "read_facts",
    "remove",
    "resolve",
    "verify",
]
