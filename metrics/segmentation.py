"""SPIN's segmentation figures: how many pixels of a picture the drawn body explains, as a whole and by six parts.

The body is drawn into SPIN's crop (a square about the labelled joints) by SPIN's camera, standing where its pelvis is
in the picture, and enlarged to the picture (nkolot/SPIN:eval.py, utils/imutils.py). The pixels of all pictures are one
pool.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from human.camera import guess_intrinsics
from human.errors import PosesynError
from human.full_frame import transl_in_picture
from human.part_labels import PARTS, draw_parts
from human.raster import rasterise
from metrics.case import Case, NotMeasured
from metrics.measures import measure

Array = npt.NDArray[Any]
_OPEN = 255  # of the labels: not to be counted


def draw(case: Case) -> tuple[list[Array], list[Array] | PosesynError]:
    """Masks (H,W) bool and parts (H,W) uint8 of the predicted bodies, or why there are no parts."""
    if case.predicted.transl is None:
        raise NotMeasured("the predictions do not say where their bodies stand")
    side, focal = int(case.protocol.settings["side"]), float(case.protocol.settings["focal"])
    sizes = np.asarray(case.truth["size"], np.int64)
    first, last = crop_box(np.asarray(case.truth["native2d"], np.float64), float(case.protocol.settings["scale"]))
    cameras = torch.as_tensor(np.asarray(case.truth["intrinsics"], np.float64)).clone()
    for i in np.flatnonzero(~cameras.isfinite().flatten(1).all(1).numpy()).tolist():
        cameras[i] = guess_intrinsics(int(sizes[i, 1]), int(sizes[i, 0])).double()
    # SPIN counts pixels from their corners, here whole numbers are their centres.
    to_crop = torch.zeros(len(sizes), 3, 3, dtype=torch.float64)
    factor = torch.from_numpy(side / np.maximum(last - first, 1))
    to_crop[:, 0, 0], to_crop[:, 1, 1], to_crop[:, 2, 2] = factor[:, 0], factor[:, 1], 1
    to_crop[:, :2, 2] = (0.5 - torch.from_numpy(first)) * factor - 0.5
    lens = torch.tensor([[focal, 0, (side - 1) / 2], [0, focal, (side - 1) / 2], [0, 0, 1]], dtype=torch.float64)
    body = case.predicted_body
    pelvis = body.joints("kinematic", ("pelvis",))[:, 0]
    placed = transl_in_picture(pelvis, cameras, to_crop, lens.expand(len(sizes), 3, 3))
    vertices = (body.vertices - pelvis[:, None] + placed[:, None]).float()
    shown = rasterise(vertices, body.mesh_body.faces, lens.float().expand(len(sizes), 3, 3), (side, side))
    masks = [uncrop(m, *where) for *where, m in zip(first, last, sizes, shown.mask.numpy(), strict=True)]
    try:
        drawn = draw_parts(shown, body.mesh_body).numpy()
    except PosesynError as reason:
        return masks, reason
    return masks, [uncrop(m, *where) for *where, m in zip(first, last, sizes, drawn, strict=True)]


def crop_box(joints_BJ3: Array, scale: float) -> tuple[Array, Array]:
    """(B,2) first pixel and the one behind the last, x and y: a square about the joints with confidence."""
    seen = joints_BJ3[..., 2:] > 0
    low = np.where(seen, joints_BJ3[..., :2], np.inf).min(1)
    high = np.where(seen, joints_BJ3[..., :2], -np.inf).max(1)
    half = scale * (high - low).max(1, keepdims=True) / 2
    centre = (low + high) / 2
    return np.trunc(centre - half).astype(np.int64), np.trunc(centre + half).astype(np.int64)


def uncrop(drawn_SS: Array, first_2: Array, last_2: Array, size_2: Array) -> Array:
    """(H,W) of a crop, enlarged by nearest neighbours to its place in a picture of ``size_2`` (width, height)."""
    out = np.zeros(size_2[::-1], drawn_SS.dtype)
    wide, high = last_2 - first_2
    low, top = np.maximum(first_2, 0), np.minimum(last_2, size_2)
    if (top <= low).any():
        return out
    columns = ((np.arange(wide) + 0.5) * drawn_SS.shape[1] / wide).astype(int)[
        low[0] - first_2[0] : top[0] - first_2[0]
    ]
    rows = ((np.arange(high) + 0.5) * drawn_SS.shape[0] / high).astype(int)[low[1] - first_2[1] : top[1] - first_2[1]]
    out[low[1] : top[1], low[0] : top[0]] = drawn_SS[np.ix_(rows, columns)]
    return out


def f1_terms(predicted: Array, true: Array, classes: int, counted: Array | None = None) -> tuple[Array, Array]:
    """(K,) numerators 2 tp and denominators 2 tp + fp + fn; a prediction where ``counted`` is False is of no class."""
    said = predicted if counted is None else np.where(counted, predicted, classes)
    confusion = np.bincount(
        true.ravel().astype(np.int64).clip(0, classes) * (classes + 1) + said.ravel(), minlength=(classes + 1) ** 2
    ).reshape(classes + 1, classes + 1)
    right = 2 * confusion.diagonal()[:classes]
    return right, (confusion.sum(0) + confusion.sum(1))[:classes]


def _foreground(case: Case) -> list[tuple[Array, Array]]:
    """(predicted, true) masks."""
    true = np.unpackbits(np.asarray(case.truth["silhouette"]), axis=-1).astype(bool)
    return [(mask, t[: mask.shape[0], : mask.shape[1]]) for mask, t in zip(case.segmented[0], true, strict=True)]


def _labelled(case: Case) -> list[tuple[Array, Array]]:
    drawn = case.segmented[1]
    if isinstance(drawn, PosesynError):
        raise NotMeasured(str(drawn))
    true = np.asarray(case.truth["parts"])
    return [(part, t[: part.shape[0], : part.shape[1]]) for part, t in zip(drawn, true, strict=True)]


def _gathered(case: Case, rows: list[tuple[Array, Array]]) -> tuple[Tensor, Tensor]:
    """Numerators (in %) and denominators, (B,K); nobody is counted of whom nothing was predicted."""
    numerator, denominator = (torch.from_numpy(np.stack(c).astype(np.float64)) for c in zip(*rows, strict=True))
    lost = case.missing[:, None]
    return torch.where(lost, torch.nan, 100 * numerator), torch.where(lost, 0.0, denominator)


@measure("fg_accuracy", "%")
def _fg_accuracy(case: Case, _: float) -> tuple[Tensor, Tensor]:
    rows = [(np.array([(p == t).sum()]), np.array([t.size])) for p, t in _foreground(case)]
    return _gathered(case, rows)


@measure("fg_f1", "%")
def _fg_f1(case: Case, _: float) -> tuple[Tensor, Tensor]:
    return _gathered(case, [f1_terms(p.astype(np.int64), t, 2) for p, t in _foreground(case)])


@measure("parts_accuracy", "%")
def _parts_accuracy(case: Case, _: float) -> tuple[Tensor, Tensor]:
    """Open pixels count, as background."""
    rows = [(np.array([(p == np.where(t == _OPEN, 0, t)).sum()]), np.array([t.size])) for p, t in _labelled(case)]
    return _gathered(case, rows)


@measure("parts_f1", "%")
def _parts_f1(case: Case, _: float) -> tuple[Tensor, Tensor]:
    classes = len(PARTS) + 1
    return _gathered(case, [f1_terms(p.astype(np.int64), t, classes, t != _OPEN) for p, t in _labelled(case)])
