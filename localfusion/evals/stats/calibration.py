"""How far a stated probability can be believed."""

import math
from collections.abc import Sequence

import numpy as np

LEAST = 200
"""Samples from which on a calibration error by bins means something."""
BINS = 10


def brier(stated: Sequence[float], right: Sequence[bool]) -> float:
    """Return the mean squared distance between probability and outcome (Brier 1950)."""
    return float(np.mean((np.asarray(stated) - np.asarray(right, dtype=float)) ** 2))


def calibration_error(stated: Sequence[float], right: Sequence[bool]) -> float | None:
    """Return the expected calibration error over bins of equal counts; None below 200 samples."""
    if len(stated) < LEAST:
        return None
    order = np.argsort(stated, kind="stable")
    chance, hit = np.asarray(stated)[order], np.asarray(right, dtype=float)[order]
    bins = zip(np.array_split(chance, BINS), np.array_split(hit, BINS), strict=True)
    return float(sum(len(c) * abs(c.mean() - h.mean()) for c, h in bins) / len(chance))


def auroc(stated: Sequence[float], right: Sequence[bool]) -> float:
    """Return how often a right answer has the higher probability; ties count half.

    By ranks (Mann and Whitney 1947). NaN where all are right or all wrong.
    """
    chance, hit = np.asarray(stated, dtype=float), np.asarray(right, dtype=bool)
    positive, negative = int(hit.sum()), int((~hit).sum())
    if not positive or not negative:
        return math.nan
    _, inverse, counts = np.unique(chance, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[hit].sum() - positive * (positive + 1) / 2) / (positive * negative))
