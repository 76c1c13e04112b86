"""What the outside is told of the work: Prometheus metrics and, where wanted, OpenTelemetry spans.

Knows events, engines' states and names from models.yaml; never a prompt, an answer or a key.
"""

from localfusion.telemetry.telemetry import CONTENT_TYPE, Telemetry

__all__ = ["CONTENT_TYPE", "Telemetry"]
