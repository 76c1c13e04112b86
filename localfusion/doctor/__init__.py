"""What is wrong with this installation, and what mends it: everything that answering needs.

``examine`` runs the checks and tells findings; nothing prints, and nothing is changed.
"""

from localfusion.doctor.examine import examine
from localfusion.doctor.finding import Finding, Verdict

__all__ = ["Finding", "Verdict", "examine"]
