"""From results to a report: ``report.json`` is the truth; text and HTML are views of it."""

from localfusion.evals.report.comparing import compare, compare_text
from localfusion.evals.report.make import make_report
from localfusion.evals.report.page import html_page
from localfusion.evals.report.text import terminal_text

__all__ = ["compare", "compare_text", "html_page", "make_report", "terminal_text"]
