"""Measurements of `scripts/bench`, one module each."""
