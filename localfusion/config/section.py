"""What every part of models.yaml shares: strictness, and the types of its values."""

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}


def _parse_seconds(value: object) -> object:
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|)", value)):
        return float(match[1]) * _SECONDS[match[2]]
    return value


Seconds = Annotated[float, Field(gt=0, le=3600), BeforeValidator(_parse_seconds)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


class Section(BaseModel):
    """A part of models.yaml: nothing unknown, nothing changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
