"""Statistics of paired scores: pure functions on arrays, each with its source."""
