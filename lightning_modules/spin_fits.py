"""Model fitting in the loop: bodies fitted to 2D labels, the better ones kept and used as labels of the pose.

Kolotouros et al., "Learning to Reconstruct 3D Human Pose and Shape via Model-fitting in the Loop", ICCV 2019, §3.3-3.4,
and its code (train/trainer.py, train/fits_dict.py): each step fits the body from what the network said, compares it by
reprojection with the best fit so far of the same person, keeps the better, and trains on those that are good enough.
The fitter is ours (:func:`human.fit.fit_joints2d`) in place of SMPLify, and what SPIN reads from files of SMPLify fits
made beforehand is made when a person is first met.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from human.batch import NUM_JOINTS, PoseBatch
from human.body import BodyModel
from human.camera import project
from human.errors import PosesynError
from human.fit import FitResult, fit_joints2d
from human.motion import mirror_pose, mirror_root
from human.rotations import matrix_to_rotvec, rotation_about, rotvec_to_matrix
from human.skeleton import POSE32
from lightning_modules.losses import labelled

#: Joints whose labels are not where the body has them (smplify/smplify.py): fitted to, not compared by.
NOT_COMPARED = POSE32.indices("neck", "left_hip", "right_hip")
#: SPIN's mean runs over 49 slots of joints, most of them empty; its robust error bends at 100 pixels of a 224 crop.
SLOTS, SIGMA, CROP = 49, 100.0, 224
#: Betas beyond are replaced by zeros, all of a body's.
MAX_BETA = 3.0
MIN_COMPARED = 3
_FLIP = list(POSE32.flip_permutation)
_POSE, _BETAS, _SEEN = 72, 10, 2 * NUM_JOINTS
WIDTH = _POSE + _BETAS + _SEEN


@dataclass
class ModelFitting:
    """Fitting in the loop.

    Args:
        iterations: of the fit, Levenberg-Marquardt steps (SPIN: 100 of Adam).
        threshold: a fit is trained on where its reprojection error is below: squared pixels of a 224 crop, robust,
            mean over SPIN's 49 slots of joints.
        starts: a person met for the first time is also fitted from this many poses of the motion bank (1, 2, 4, 8 or
            16); 0: only from what the network says.
    """

    iterations: int = 10
    threshold: float = 100.0
    starts: int = 4

    def __post_init__(self) -> None:
        if self.iterations < 1 or not self.threshold > 0 or self.starts not in (0, 1, 2, 4, 8, 16):
            raise PosesynError(
                f"fitting needs iterations >= 1, threshold > 0 and starts of 0, 1, 2, 4, 8 or 16, got "
                f"{self.iterations}, {self.threshold} and {self.starts}"
            )


@dataclass(frozen=True)
class Bodies:
    """``pose`` (B,24,3) rotation vectors, the root first, in the crop's camera frame; ``betas`` (B,10)."""

    pose: Tensor
    betas: Tensor

    def where(self, mask_B: Tensor, other: Bodies) -> Bodies:
        """Ours where the mask is true, else the other's."""
        return Bodies(
            torch.where(mask_B[:, None, None], self.pose, other.pose),
            torch.where(mask_B[:, None], self.betas, other.betas),
        )


class BestFits:
    """The best fit of every person met, by (source, generation, index) of the sample key.

    A fit is kept in the frame of the crop that it was made in, with the labels of that crop: another crop of the same
    person is turned and mirrored against it by as much as its labels are. About 600 bytes a person, in memory and in
    the checkpoint, so that a resumed run goes on with them.
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[int, int, int], int] = {}
        self._values = torch.zeros(0, WIDTH)

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, key_N3: Tensor, values_NW: Tensor) -> None:
        """Later rows of one key replace earlier ones."""
        rows = [self._rows.setdefault(_name(k), len(self._rows)) for k in key_N3.tolist()]
        if len(self._rows) > len(self._values):
            grown = torch.zeros(max(1024, 2 * len(self._rows)), WIDTH)
            grown[: len(self._values)] = self._values
            self._values = grown
        for row, value in zip(rows, values_NW.float().cpu(), strict=True):
            self._values[row] = value

    def get(self, key_N3: Tensor) -> tuple[Tensor, Tensor]:
        """(N,W) values and (N,) which are there."""
        rows = torch.tensor([self._rows.get(_name(k), -1) for k in key_N3.tolist()], dtype=torch.long)
        there = rows >= 0
        values = torch.zeros(len(rows), WIDTH)
        values[there] = self._values[rows[there]]
        return values.to(key_N3.device), there.to(key_N3.device)

    def state_dict(self) -> dict[str, Tensor]:
        keys = torch.tensor(list(self._rows), dtype=torch.int64).reshape(-1, 3)
        return {"keys": keys, "values": self._values[: len(keys)].clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        keys, values = state["keys"], state["values"]
        if keys.ndim != 2 or keys.shape[1] != 3 or values.shape != (len(keys), WIDTH):
            raise PosesynError(
                f"the checkpoint's fits have shapes {tuple(keys.shape)} and {tuple(values.shape)}, "
                f"(N,3) and (N,{WIDTH}) expected"
            )
        self._rows = {_name(k): row for row, k in enumerate(keys.tolist())}
        self._values = values.cpu().clone()


def _name(key: list[int]) -> tuple[int, int, int]:
    return key[0], key[1], key[2]


class FitsInTheLoop:
    """What an estimator does with its fits: :meth:`improve` in every training step."""

    def __init__(self, options: ModelFitting, body: BodyModel) -> None:
        self.options, self.body, self.best = options, body, BestFits()

    @torch.no_grad()
    def improve(
        self, batch: PoseBatch, said: Bodies, transl_B3: Tensor, intrinsics_B33: Tensor, share: Callable[..., Tensor]
    ) -> tuple[PoseBatch, Tensor]:
        """The batch with the best fits as labels where it has no pose of its own, and (B,) where that is.

        Args:
            said: by the network; ``transl_B3``, ``intrinsics_B33``: of the body's origin, and the camera.
            share: a tensor's rows of all ranks in the order of the global batch
                (:func:`lightning_modules.ranks.whole_batch`).
        """
        batch_conf, key = batch.joints2d_conf, batch.key[:, :3]
        compared = batch_conf.clone()
        compared[:, NOT_COMPARED] = 0
        wanted = ~batch.has_pose & (batch.weight > 0) & ((compared > 0).sum(1) >= MIN_COMPARED)
        best, new = said, torch.zeros_like(wanted)
        error = torch.full_like(batch.weight, torch.inf)
        rows = torch.nonzero(wanted)[:, 0]
        if len(rows):
            part, camera = batch[rows], intrinsics_B33[rows].float()
            own = Bodies(said.pose[rows].float(), said.betas[rows].float())
            found, found_new, found_error = self._best_of(part, own, transl_B3[rows].float(), camera)
            best = Bodies(
                said.pose.float().index_copy(0, rows, found.pose), said.betas.float().index_copy(0, rows, found.betas)
            )
            new, error = new.index_copy(0, rows, found_new), error.index_copy(0, rows, found_error)
        values = torch.cat([best.pose.flatten(1), best.betas, batch.joints2d.flatten(1)], 1).float()
        all_new = share(new.to(torch.int64)).reshape(-1) > 0
        all_keys, all_values = share(key).reshape(-1, 3), share(values).reshape(-1, WIDTH)
        if bool(all_new.any()):
            self.best.put(all_keys[all_new], all_values[all_new])
        good = wanted & (error < self.options.threshold)
        extreme = (best.betas.abs() > MAX_BETA).any(1, keepdim=True)
        betas = torch.where(extreme, 0.0, best.betas)
        return batch.replace(
            global_orient=torch.where(good[:, None], best.pose[:, 0], batch.global_orient),
            body_pose=torch.where(good[:, None, None], best.pose[:, 1:], batch.body_pose),
            betas=torch.where((good & ~batch.has_betas)[:, None], betas, batch.betas),
            has_pose=batch.has_pose | good,
            has_betas=batch.has_betas | good,
        ), good

    def _best_of(
        self, batch: PoseBatch, said: Bodies, transl_B3: Tensor, camera_B33: Tensor
    ) -> tuple[Bodies, Tensor, Tensor]:
        """The best bodies, which of them are better than what was kept, and their errors."""
        seen = labelled(batch.joints2d, batch.joints2d_conf)
        values, known = self.best.get(batch.key[:, :3])
        best = carried(values, seen, batch.joints2d_conf)
        error = torch.where(known, self._error(best, batch, camera_B33), torch.inf)
        new = torch.zeros_like(known)
        starts = [FitResult(said.betas, said.pose[:, 1:], said.pose[:, 0], transl_B3, error * 0, known | True)]
        for start in (*starts, None):
            rows = torch.arange(len(known), device=known.device)
            if start is None:
                rows = rows[~known]
                if not self.options.starts or not len(rows):
                    continue
            fit = fit_joints2d(
                self.body, seen[rows], batch.joints2d_conf[rows], camera_B33[rows], init=start,
                starts=self.options.starts or 1, iterations=self.options.iterations, on_bad="mask",
            )  # fmt: skip
            pose = torch.cat([fit.global_orient[:, None], fit.body_pose], 1)
            trial = Bodies(best.pose.index_copy(0, rows, pose), best.betas.index_copy(0, rows, fit.betas))
            usable = torch.zeros_like(known).index_copy(0, rows, fit.valid)
            trial_error = torch.where(usable, self._error(trial, batch, camera_B33), torch.inf)
            better = trial_error < error
            best, error, new = trial.where(better, best), torch.where(better, trial_error, error), new | better
        return best, new, error

    def _error(self, bodies: Bodies, batch: PoseBatch, camera_B33: Tensor) -> Tensor:
        joints = self.body.joints(bodies.betas, bodies.pose[:, 1:], bodies.pose[:, 0], None)
        seen = labelled(batch.joints2d, batch.joints2d_conf)
        transl = translation_seen(joints, seen, batch.joints2d_conf, camera_B33)
        return joint_error(project(joints + transl[:, None], camera_B33), seen, batch.joints2d_conf, batch.size)


def joint_error(pixels_BJ2: Tensor, label_BJ2: Tensor, conf_BJ: Tensor, size: int) -> Tensor:
    """(B,) SPIN's robust reprojection error (smplify/losses.py), by which fits are compared; inf where undefined."""
    away = ((pixels_BJ2 - label_BJ2) * (CROP / size)).square()
    robust = SIGMA**2 * away / (SIGMA**2 + away)
    conf = conf_BJ.clone()
    conf[:, NOT_COMPARED] = 0
    error = (conf.square() * robust.sum(-1)).sum(1) / SLOTS
    return torch.where(error.isfinite(), error, torch.inf)


def translation_seen(joints_BJ3: Tensor, pixels_BJ2: Tensor, conf_BJ: Tensor, intrinsics_B33: Tensor) -> Tensor:
    """(B,3) metres: where joints must stand to be seen at the pixels, in the (linear) least squares of SPIN
    (utils/geometry.py), squared pixels times depth, each weighted by its confidence."""
    joints, pixels, conf, camera = (x.double() for x in (joints_BJ3, pixels_BJ2, conf_BJ, intrinsics_B33))
    # rows of the image plane: K's first two rows applied to (x + t), minus the pixel times the depth
    plane = camera[:, None, :2, :2].expand(*joints.shape[:2], 2, 2)
    off = camera[:, None, :2, 2] - pixels
    rows = torch.cat([plane, off[..., None]], -1)  # (B,J,2,3)
    wanted = -(rows @ joints[..., None])[..., 0]
    weighted = rows * conf[..., None, None]
    normal = torch.einsum("bjki,bjkl->bil", weighted, rows)
    right = torch.einsum("bjki,bjk->bi", weighted, wanted)
    # nothing seen leaves nothing to solve: a little on the diagonal keeps the numbers finite
    ridge = 1e-9 * normal.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
    normal = normal + ridge[:, None, None] * torch.eye(3, dtype=normal.dtype, device=normal.device)
    return torch.linalg.solve(normal, right).to(joints_BJ3)


def carried(values_NW: Tensor, seen_NJ2: Tensor, conf_NJ: Tensor) -> Bodies:
    """Kept fits in the frames of other crops of the same persons, whose labels lie at ``seen_NJ2``.

    One crop's labels are the other's turned, scaled, moved, and mirrored or not: of both, the one that fits better.
    """
    pose, betas, kept = values_NW.split([_POSE, _BETAS, _SEEN], 1)
    pose, kept = pose.reshape(-1, 24, 3), kept.reshape(-1, NUM_JOINTS, 2)
    now = _centred(seen_NJ2, conf_NJ)
    turns = []
    for labels in (kept, kept[:, _FLIP] * kept.new_tensor([-1.0, 1.0])):
        turns.append((_centred(labels, conf_NJ).conj() * now).sum(1))
    mirrored = turns[1].abs() > turns[0].abs() * (1 + 1e-6)
    root = torch.where(mirrored[:, None], mirror_root(pose[:, 0]), pose[:, 0])
    body = torch.where(mirrored[:, None, None], mirror_pose(pose[:, 1:]), pose[:, 1:])
    angle = torch.where(mirrored, turns[1], turns[0]).angle()
    root = matrix_to_rotvec(rotation_about("z", angle) @ rotvec_to_matrix(root))
    return Bodies(torch.cat([root[:, None], body], 1), betas)


def _centred(points_NJ2: Tensor, conf_NJ: Tensor) -> Tensor:
    """(N,J) complex, about the middle of those with confidence; 0 where there is none."""
    has = (conf_NJ > 0).to(points_NJ2)[..., None]
    middle = (points_NJ2 * has).sum(1, keepdim=True) / has.sum(1, keepdim=True).clamp_min(1)
    return torch.view_as_complex(((points_NJ2 - middle) * has).contiguous())
