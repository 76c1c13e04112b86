"""Does fusion pay here, and can the judge be trusted? Everything behind ``localfusion eval``.

A suite's samples are asked of every member once and recorded; each arm then answers from the
recorded panels; a report compares the arms. Docs: docs/evaluation.md.
"""

INSTALL = "pip install 'localfusion[eval]'"
"""What mends a missing package of evaluation."""
