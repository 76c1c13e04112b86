"""Delete pulled models."""

import shutil

from localfusion.config import Config
from localfusion.errors import WeightsError
from localfusion.weights.job import holding
from localfusion.weights.progress import folder_bytes
from localfusion.weights.store import locate


def remove(config: Config, name: str) -> int:
    """Delete what was pulled or staged of a model; return the bytes freed.

    Raises:
        WeightsError: the folder is the user's own, nothing is there, or a pull is at work on it.
    """
    place = locate(config, name)
    if not place.is_ours:
        raise WeightsError(
            f"{place.folder} is your own folder (source: path); localfusion does not delete it"
        )
    folders = [folder for folder in (place.folder, place.staging) if folder.is_dir()]
    if not folders:
        raise WeightsError(f"nothing of {name!r} is in {place.folder.parent}")
    with holding(place.staging, wait=lambda: False):
        freed = sum(folder_bytes(folder) for folder in folders)
        for folder in {*folders, place.staging}:
            shutil.rmtree(folder)
        place.stamp.unlink(missing_ok=True)
    return freed
