"""What happens between prompt and answer. Opens no socket, file or process; emits events."""

from localfusion.fusion.fusion import Fusion

__all__ = ["Fusion"]
