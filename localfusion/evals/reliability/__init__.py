"""Can the judge be trusted? Named tests with planted faults, each with a bar and an interval.

``questions`` and ``plants`` make texts; ``cases`` has the words; a file per family of tests;
``asking`` has the judge read the panels; ``measure`` decides; ``suite`` runs it all.
"""

from localfusion.evals.reliability.asking import Seen, Setting
from localfusion.evals.reliability.suite import TESTS, JudgeReport, Wanted, choose, examine_judge

__all__ = ["TESTS", "JudgeReport", "Seen", "Setting", "Wanted", "choose", "examine_judge"]
