"""What a protocol can measure of a batch of persons: every figure as sums over persons, so that any way of averaging,
resampling or splitting over ranks gives the same number.

A measure is a function of a :class:`Case` (and the number behind an "@" in its name) that returns ``numerator`` and
``denominator``, (B,K) float64: K is 1, or the number of joints. NaN numerators with denominator 0: not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from human.body_folders import search_folders
from human.errors import PosesynError
from metrics.bodies import Posed
from metrics.case import Case, NotMeasured
from metrics.functional import (
    CHALLENGE_THRESHOLDS,
    MPI_INF_THRESHOLDS,
    ORIENTED_JOINTS,
    auc_3d,
    correct_joints,
    mpjae,
    mpjpe,
    n_mpjpe,
    pa_mpjae,
    pa_mpjpe,
    pa_pve,
    pck_3d,
    pve,
    pve_t_sc,
    similarity_procrustes,
)

Measure = Callable[[Case, float], tuple[Tensor, Tensor]]
MEASURES: dict[str, tuple[Measure, str]] = {}
#: Figures of a whole set, which no sum over persons gives, and their units: COCO's, by ``metrics.average_precision``.
WHOLE: dict[str, str] = {
    **dict.fromkeys(("ap", "ap_50", "ap_75", "ap_m", "ap_l"), "%"),
    **dict.fromkeys(("ar", "ar_50", "ar_75", "ar_m", "ar_l"), "%"),
}


def measure(name: str, unit: str) -> Callable[[Measure], Measure]:
    """Registers a function under ``name``; its figures are in ``unit``."""

    def add(function: Measure) -> Measure:
        MEASURES[name] = (function, unit)
        return function

    return add


def per_person(error_B: Tensor, counted_B: Tensor) -> tuple[Tensor, Tensor]:
    """One value a person; those counted but not finite (nothing predicted) keep denominator 0 and numerator NaN."""
    good = counted_B & error_B.isfinite()
    return torch.where(good, error_B, torch.nan)[:, None], good.double()[:, None]


def _counted(case: Case) -> Tensor:
    return (case.weight > 0).any(1)


@measure("mpjpe", "mm")
def _mpjpe(case: Case, _: float) -> tuple[Tensor, Tensor]:
    return per_person(mpjpe(case.predicted3d, case.truth3d, case.weight), _counted(case))


@measure("pa_mpjpe", "mm")
def _pa_mpjpe(case: Case, _: float) -> tuple[Tensor, Tensor]:
    if "fit" in case.protocol.settings:
        return per_person(mpjpe(_fitted3d(case), case.truth3d, case.weight), _counted(case))
    return per_person(pa_mpjpe(case.predicted3d, case.truth3d, case.weight), _counted(case))


def _fitted3d(case: Case) -> Tensor:
    """(B,J,3) predicted joints after Procrustes on others than are compared: settings "fit", names on both sides."""
    names = tuple(case.protocol.settings["fit"])
    joints = replace(case.protocol.truth, names=names), replace(case.protocol.prediction, names=names)
    wider = replace(case, protocol=replace(case.protocol, truth=joints[0], prediction=joints[1]))
    fit = similarity_procrustes(wider.predicted3d, wider.truth3d, wider.weight)
    return fit.apply(case.predicted3d)


@measure("n_mpjpe", "mm")
def _n_mpjpe(case: Case, _: float) -> tuple[Tensor, Tensor]:
    return per_person(n_mpjpe(case.predicted3d, case.truth3d, case.weight), _counted(case))


# -- shares of joints in 3D ------------------------------------------------------------------------------------------
# settings: inclusive (a distance equal to the threshold counts), curve ("mpi_inf" or "challenge")
@measure("pck3d", "%")
def _pck3d(case: Case, threshold: float) -> tuple[Tensor, Tensor]:
    return _pck3d_of(case, threshold, "none")


@measure("pa_pck3d", "%")
def _pa_pck3d(case: Case, threshold: float) -> tuple[Tensor, Tensor]:
    return _pck3d_of(case, threshold, "procrustes")


def _pck3d_of(case: Case, threshold: float, align: str) -> tuple[Tensor, Tensor]:
    inclusive = bool(case.protocol.settings.get("inclusive", False))
    joints, align = _aligned(case, align)
    share = pck_3d(*joints, threshold_mm=threshold, inclusive=inclusive, align=align)  # type: ignore[arg-type]
    return per_person(100 * share, _counted(case))


@measure("auc3d", "%")
def _auc3d(case: Case, _: float) -> tuple[Tensor, Tensor]:
    return _auc3d_of(case, "none")


@measure("pa_auc3d", "%")
def _pa_auc3d(case: Case, _: float) -> tuple[Tensor, Tensor]:
    return _auc3d_of(case, "procrustes")


def _aligned(case: Case, align: str) -> tuple[tuple[Tensor, Tensor, Tensor], str]:
    """What is compared, and how it is still to be aligned."""
    fitted = align == "procrustes" and "fit" in case.protocol.settings
    predicted = _fitted3d(case) if fitted else case.predicted3d
    return (predicted, case.truth3d, case.weight), "none" if fitted else align


def _auc3d_of(case: Case, align: str) -> tuple[Tensor, Tensor]:
    joints, align = _aligned(case, align)
    if case.protocol.settings.get("curve", "mpi_inf") == "challenge":
        area = auc_3d(
            *joints,
            thresholds_mm=CHALLENGE_THRESHOLDS,
            rule="trapezoid",
            inclusive=True,
            align=align,  # type: ignore[arg-type]
        )
    else:
        area = auc_3d(*joints, thresholds_mm=MPI_INF_THRESHOLDS, align=align)  # type: ignore[arg-type]
    return per_person(100 * area, _counted(case))


# -- meshes and angles -----------------------------------------------------------------------------------------------
@measure("pve", "mm")
def _pve(case: Case, _: float) -> tuple[Tensor, Tensor]:
    return per_person(pve(case.predicted_vertices, case.truth_vertices), _counted(case))


@measure("mve", "mm")
def _mve(case: Case, _: float) -> tuple[Tensor, Tensor]:
    """AGORA's: over the vertices of the body, without hands and face."""
    rows = body_vertices(case.truth.body, case.truth_vertices.shape[1])
    return per_person(pve(case.predicted_vertices[:, rows], case.truth_vertices[:, rows]), _counted(case))


def body_vertices(kind: str, count: int) -> Tensor:
    """Numbers of the vertices of the body proper, from the file that AGORA's evaluator comes with."""
    name = f"body_verts_{kind}.npy"
    file = next((f / n for f in search_folders() for n in (name, f"{kind}/{name}") if (f / n).is_file()), None)
    if file is None:
        raise NotMeasured(f"{name} of pixelite1201/agora_evaluation:utils is not beside the body models")
    try:
        rows = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise PosesynError(f"{file} is damaged ({error}): get it again") from None
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not len(rows) or rows.min() < 0 or rows.max() >= count:
        raise PosesynError(f"{file} holds no numbers of {count} vertices: get it again")
    return torch.from_numpy(rows.astype(np.int64))


@measure("pa_pve", "mm")
def _pa_pve(case: Case, _: float) -> tuple[Tensor, Tensor]:
    """Fitted on the compared joints, as EMDB's evaluator does."""
    meshes = case.predicted_vertices, case.truth_vertices
    return per_person(pa_pve(*meshes, case.predicted3d, case.truth3d, case.weight), _counted(case))


@measure("pa_pve_mesh", "mm")
def _pa_pve_mesh(case: Case, _: float) -> tuple[Tensor, Tensor]:
    """Fitted on the vertices."""
    return per_person(pa_pve(case.predicted_vertices, case.truth_vertices), _counted(case))


@measure("pve_t_sc", "mm")
def _pve_t_sc(case: Case, _: float) -> tuple[Tensor, Tensor]:
    """Both bodies are of the truth's gender (SSP-3D)."""
    said = case.predicted
    if said.betas is None or said.body.split("_")[0] != case.truth.body:
        raise NotMeasured(f"the predicted shape is of {said.body or 'no body'}, the truth's of {case.truth.body}")
    error = torch.full((len(case.truth),), torch.nan, dtype=torch.float64)
    for rows, posed in case.truth_bodies:
        still = torch.zeros(len(rows), 24, 3)
        pair = (Posed(posed.name, still, betas).vertices for betas in (said.betas[rows], posed.betas))
        error[torch.as_tensor(rows)] = pve_t_sc(*pair)
    return per_person(error, torch.ones(len(error), dtype=torch.bool))


@measure("mpjae", "deg")
def _mpjae(case: Case, _: float) -> tuple[Tensor, Tensor]:
    return per_person(mpjae(*_rotations(case)), _counted(case))


@measure("pa_mpjae", "deg")
def _pa_mpjae(case: Case, _: float) -> tuple[Tensor, Tensor]:
    error = pa_mpjae(*_rotations(case), case.predicted3d, case.truth3d, case.weight)
    return per_person(error, _counted(case))


def _rotations(case: Case) -> tuple[Tensor, Tensor]:
    """(B,9,3,3) of the predicted and the true body, in the camera's frame."""
    true = torch.full((len(case.truth), len(ORIENTED_JOINTS), 3, 3), torch.nan, dtype=torch.float64)
    for rows, posed in case.truth_bodies:
        true[torch.as_tensor(rows)] = posed.global_rotations(ORIENTED_JOINTS)
    said = case.predicted_body.global_rotations(ORIENTED_JOINTS)
    return torch.where(case.missing[:, None, None, None], torch.nan, said), true


# -- pixels ----------------------------------------------------------------------------------------------------------
@measure("pck", "%")
def _pck(case: Case, threshold: float) -> tuple[Tensor, Tensor]:
    correct, counted = correct_joints(case.predicted2d, case.truth2d, case.normaliser, threshold, case.weight)
    right, total = 100.0 * correct.double(), counted.double()
    if case.protocol.average == "person":
        share = right.sum(1) / total.sum(1)
        return per_person(share, total.sum(1) > 0)
    if case.protocol.average == "label":
        return right.sum(1, keepdim=True), total.sum(1, keepdim=True)
    return right, total
