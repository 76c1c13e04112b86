"""Public suites and clients of `scripts/conformance`, a module for each kind."""
