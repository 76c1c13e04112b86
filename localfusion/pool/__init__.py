"""The pool: engines started, shared by runs, put away and changed; see EnginePool."""

from localfusion.pool.groups import Waiting
from localfusion.pool.pool import EnginePool

__all__ = ["EnginePool", "Waiting"]
