"""Variables of NASA's Common Data Format, which Human3.6M keeps its joints in; read by cdflib, which runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cdflib
import numpy as np
import numpy.typing as npt

from datamodules.readers.files import require
from human.errors import PosesynError


def read_cdf(path: Path, name: str) -> npt.NDArray[Any]:
    """The variable ``name``, records first; :class:`PosesynError` names a file that is missing, damaged or another."""
    require(path)
    try:
        return np.asarray(cdflib.CDF(path).varget(name))
    except Exception as error:  # a damaged file fails anywhere in the parser
        raise PosesynError(
            f"{path} is damaged or no CDF file with {name!r} ({type(error).__name__}: {error}): "
            "get it again from the data set's official archive"
        ) from None
