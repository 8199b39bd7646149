"""Predictions within the memory there is: a batch that does not fit is made in halves."""

from __future__ import annotations

import gc
import logging
from weakref import WeakKeyDictionary

import torch
from torch import nn

from human.batch import PoseBatch
from human.errors import PosesynError
from human.prediction import Estimator, Prediction, module_of

log = logging.getLogger(__name__)
# What the allocators of the CPU and of cuBLAS say; torch has no type for these.
_SAID = ("allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
# How many pictures at a time fitted, of those estimators with which it were not all.
_FITS: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


def out_of_memory(error: BaseException) -> bool:
    """Whether that is what an exception says."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in _SAID)


def predict(estimator: Estimator, batch: PoseBatch) -> Prediction:
    """What ``estimator`` says of ``batch``, in order, on the CPU; call inside :func:`synth.eem.inference`.

    Where memory runs out, the batch is halved, down to a single picture; so are all that come later in the run.

    Raises:
        PosesynError: there is no room for one picture.
    """
    module = module_of(estimator)
    device = next(module.parameters()).device
    parts: list[Prediction] = []
    start = 0
    while not parts or start < len(batch):
        count = min(_FITS.get(module, len(batch)), len(batch) - start)
        part = batch if count == len(batch) else batch[start : start + count]
        try:
            parts.append(estimator.predict(part.to(device)).cpu())
            start += max(count, 1)
            continue
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            said = (str(error) or "no room").splitlines()[0]
        # Outside the handler: the traceback holds the tensors that are in the way.
        if count <= 1:
            raise PosesynError(
                f"{type(estimator).__name__} does not fit into the memory of {device} with a single picture ({said}): "
                "free some, or lower the training batch"
            )
        _FITS[module] = count // 2
        log.warning("out of memory with %d pictures, from now on %d at a time: %s", count, count // 2, said)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return parts[0] if len(parts) == 1 else Prediction.cat(parts)
