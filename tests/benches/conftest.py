"""The measurements are scripts, no part of the package; their folder is put on the path here."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent.parent / "scripts"))
