"""From initial pictures to jobs: mesh recovery, hardness, pose augmentation (Diffusion-HPC, §3.2 to 3.4).

    initial picture --estimator--> mesh --prior--> hard? --augmentation--> jobs, three for each picture

A job carries mesh and camera (the label), the initial picture and the words. What an engine does with them is its
business (:mod:`synth.engines.depth2img`). The estimator is whoever is asked: a refresh gives its current one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from human.body import BodyModel, load_body
from human.camera import MIN_DEPTH, project
from human.errors import PosesynError
from human.prediction import Estimator, Prediction
from human.rng import generator
from synth.diffusion.depth_guidance import scaled_intrinsics
from synth.eem import inference
from synth.hpc.initial import InitialPictures
from synth.jobs import Job, Provenance, Reference
from synth.planning import slot_seed
from synth.pose_augmentation import PoseAugmentation
from synth.pose_prior import HARD, pose_hardness
from synth.pose_prior_files import PACKAGED, shared_pose_prior, weights_hash
from synth.scene import SceneSpec, in_fixed_batches
from synth.within_memory import predict

VERSION = 1


@dataclass(frozen=True)
class HPCPlan:
    """Jobs, ``hardness`` (N,) of each initial picture's mesh (NaN: none was recovered), and counts for the log."""

    jobs: list[Job]
    hardness: np.ndarray
    report: dict[str, float | int] = field(default_factory=dict)


@dataclass
class MeshPlanner:
    """Recovers, chooses and augments.

    Args:
        size: side of the pictures that the jobs' cameras are for.
        per_picture: jobs for each initial picture that is used (the paper: 3).
        recovered: whether the first of them shows the mesh as it was recovered.
        hardness: meshes whose hardness (:func:`synth.pose_prior.pose_hardness`) is not above this are left out: 30 with
            VPoser's weights. None: all are used, as the paper's few-shot sets do.
        prior: the pose prior by name or path ("vposer": the official one, where the user has it).
        augmentation: how far the others are moved.
        inside: share of the 24 body joints that must be in the picture.
        body: the model that the estimator's parameters belong to.
    """

    size: int
    per_picture: int = 3
    recovered: bool = True
    hardness: float | None = HARD
    prior: str = PACKAGED
    augmentation: PoseAugmentation = field(default_factory=PoseAugmentation)
    inside: float = 0.5
    body: str = "free"

    def __post_init__(self) -> None:
        if self.size < 1 or self.per_picture < 1 or not 0 <= self.inside <= 1:
            raise PosesynError(
                "Diffusion-HPC's planner needs size and per_picture >= 1 and inside in 0 .. 1, got "
                f"{self.size}, {self.per_picture} and {self.inside}"
            )
        if self.hardness is not None and not np.isfinite(self.hardness):
            raise PosesynError(f"Diffusion-HPC's planner: hardness is a finite number or null, got {self.hardness}")
        self._prior = shared_pose_prior(self.prior)
        self._body: BodyModel = load_body(self.body)

    def config(self) -> dict[str, Any]:
        """Everything that decides the jobs, as JSON-ready values."""
        settings = asdict(self)
        return {"version": VERSION, **settings, "prior": weights_hash(self._prior)}

    def config_hash(self) -> str:
        """sha256 (hex)."""
        return hashlib.sha256(json.dumps(self.config(), sort_keys=True).encode()).hexdigest()

    def plan(
        self,
        initial: InitialPictures,
        predictions: Prediction,
        *,
        seed: int,
        number: int = 0,
        tpe: str = "",
    ) -> HPCPlan:
        """Jobs for the meshes in ``predictions``, a function of them, of the pictures, the settings and the seeds.

        A picture in which nobody was recovered (a prediction that is not finite, or a body out of the picture) is
        counted and left out; it is never an error.

        Args:
            predictions: one row per picture, of the crops at their own size.
            number: of the refresh in its run; seeds are made from it.
            seed: of the run.
            tpe: names the estimator's weights, for provenance.
        """
        count = len(initial)
        if len(predictions.betas) != count:
            raise PosesynError(f"{count} initial pictures need as many predictions, got {len(predictions.betas)}")
        report: dict[str, float | int] = dict(initial.report)
        hardness = np.full(count, np.nan)
        fine = predictions.finite & (initial.crops.weight > 0) if count else torch.zeros(0, dtype=torch.bool)
        report["not_recovered"] = int(count - fine.sum())
        rows = torch.nonzero(fine)[:, 0]
        if len(rows):
            found = predictions[rows]
            meshes = self._scenes(found, initial.crops.size, [int(r) for r in rows])
            hardness[rows.numpy()] = pose_hardness(self._prior, found.body_pose).numpy()
        hard = [k for k, r in enumerate(rows) if self.hardness is None or hardness[int(r)] > self.hardness]
        report["easy"] = len(rows) - len(hard)
        jobs: list[Job] = []
        outside = 0
        for k in hard:
            row = int(rows[k])
            mesh = meshes[k : k + 1]
            seeds = [slot_seed(seed, number, row * self.per_picture + j) for j in range(self.per_picture)]
            poses = self._variants(mesh, seeds)
            seen = self._seen(poses)
            outside += int((~seen).sum())
            reference = Reference(initial.ids[row], initial.pictures[row], self._body_of(mesh, initial.pictures[row]))
            error = float(initial.errors[row])
            provenance = Provenance(initial.ids[row], error if np.isfinite(error) else None, tpe)
            jobs += [
                Job(
                    scene=poses[j : j + 1],
                    seed=seeds[j],
                    prompt=initial.prompts[row],
                    reference=reference,
                    provenance=provenance,
                )
                for j in range(self.per_picture)
                if bool(seen[j])
            ]
        report |= {"outside": outside, "pictures": len(hard), "jobs": len(jobs)}
        return HPCPlan(jobs, hardness, report)

    # -- meshes ------------------------------------------------------------------------------------------------------
    def _scenes(self, found: Prediction, crop: int, rows: list[int]) -> SceneSpec:
        """The recovered bodies before the cameras that the estimator saw them with."""
        pelvis = self._joints(found.betas, found.body_pose, found.global_orient)[:, 0]
        return SceneSpec(
            betas=found.betas.float(),
            body_pose=found.body_pose.float(),
            global_orient=found.global_orient.float(),
            transl=(found.transl - pelvis).float(),  # a prediction's is that of the pelvis
            intrinsics=scaled_intrinsics(found.intrinsics.float(), self.size / crop),
            seed=torch.tensor(rows, dtype=torch.int64),
        )

    def _variants(self, mesh: SceneSpec, seeds: Sequence[int]) -> SceneSpec:
        """``per_picture`` poses about one mesh under its camera, the pelvis where it was."""
        count = len(seeds)
        repeated = mesh[[0] * count]
        prior = self._prior
        width = self.augmentation.width(prior)
        noise = np.stack([generator("hpc pose", s).standard_normal(width) for s in seeds])
        moved = self.augmentation.apply(
            prior, repeated.betas, repeated.body_pose, repeated.global_orient, torch.from_numpy(noise).float()
        )
        keep = torch.tensor([self.recovered and j == 0 for j in range(count)])
        betas = torch.where(keep[:, None], repeated.betas, moved.betas)
        pose = torch.where(keep[:, None, None], repeated.body_pose, moved.body_pose)
        orient = torch.where(keep[:, None], repeated.global_orient, moved.global_orient)
        before = self._joints(mesh.betas, mesh.body_pose, mesh.global_orient)[:, 0]
        after = self._joints(betas, pose, orient)[:, 0]
        return SceneSpec(
            betas=betas,
            body_pose=pose,
            global_orient=orient,
            transl=torch.where(keep[:, None], repeated.transl, repeated.transl + before - after),
            intrinsics=repeated.intrinsics,
            seed=torch.tensor(list(seeds), dtype=torch.int64),
        )

    def _seen(self, scene: SceneSpec) -> Tensor:
        """(B,) bool: enough of each body is in its picture, and all of it before the camera."""
        joints = self._joints(scene.betas, scene.body_pose, scene.global_orient) + scene.transl[:, None]
        joints = joints[:, :24]
        at = project(joints, scene.intrinsics)
        inside = ((at > -0.5) & (at < self.size - 0.5)).all(-1)
        return (inside.float().mean(1) >= self.inside) & (joints[..., 2] > MIN_DEPTH).all(1)

    def _body_of(self, mesh: SceneSpec, picture: np.ndarray) -> SceneSpec:
        """The recovered body in the pixels of its own picture."""
        camera = scaled_intrinsics(mesh.intrinsics, picture.shape[0] / self.size)
        return SceneSpec(mesh.betas, mesh.body_pose, mesh.global_orient, mesh.transl, camera, mesh.seed)

    def _joints(self, betas: Tensor, pose: Tensor, orient: Tensor) -> Tensor:
        """(B,32,3) metres, unmoved."""
        with torch.no_grad():
            (joints,) = in_fixed_batches(lambda *row: (self._body.joints(*row),), betas, pose, orient)
        return joints


def recover(estimator: Estimator, initial: InitialPictures, batch_size: int = 64) -> Prediction:
    """What the estimator says of the initial pictures, on the CPU."""
    parts = []
    with inference(estimator):
        for start in range(0, len(initial), batch_size):
            crops = initial.crops[start : start + batch_size]
            parts.append(predict(estimator, crops))
    if not parts:
        f = torch.zeros
        return Prediction(
            f(0, 32, 3), f(0, 32, 2), f(0, 3), f(0, 23, 3), f(0, 10), f(0, 3), torch.eye(3).repeat(0, 1, 1)
        )
    return Prediction.cat(parts)
