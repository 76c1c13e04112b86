"""What happens between prompt and answer. Opens no socket, file or process; emits events."""

from localfusion.fusion.fusion import HOSTED_SLUG, Fusion, Observer
from localfusion.fusion.policies import POLICIES

__all__ = ["HOSTED_SLUG", "POLICIES", "Fusion", "Observer"]
