"""Bodies from 22 joints, ours against joints2smpl: ``python -m benchmarks.fit --amass FOLDER`` prints one JSON line.

Both get the same batch: AMASS poses at 20 per second (HumanML3D's rate) on the free body with random shapes, turned and
placed as HumanML3D does it, 22 joints each; both run in this process with the same threads, and ``fit_ratio`` is the
quotient of their throughputs (``fit_ratio_cpu_time`` that of the CPU times, which other processes disturb less).

The reference follows the algorithm of joints2smpl, by which MDM and T2M-GPT turn motions into SMPL
(``visualize/simplify_loc2rot.py`` and ``SMPLify3D``: Zuo et al., https://github.com/wangsen1312/joints2smpl), written
anew from its description: per batch, starting from a mean pose, Adam of step 0.01, first 20 iterations of the root's
rotation and translation on hips and shoulders, then 150 (their ``num_smplify_iters``) of everything with their loss
weights (joints 600, pose prior 4.78 * 1.5, bending 15.2, shape 5). Each iteration runs the full layer of ``smplx.SMPL``
forward and backward, with SMPL's 6,890 vertices and 207 pose blend shapes (the free body cut down to as many vertices,
which leaves its joints where they are, and with pose blend shapes of zero). The pose prior is a mixture of 8 Gaussians
like theirs, learned from our free motion, since theirs is licensed. Their scripts leave the default optimiser, L-BFGS
with up to 150 times 150 iterations: ``--optimiser lbfgs`` runs that (take a small batch); Adam is the fast one.

Errors are mean distances of the 22 joints, in millimetres.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import smplx
import torch
from torch import Tensor

from human.body import BodyModel, load_body
from human.errors import PosesynError
from human.fit import fit_joints3d
from human.fit_prior import bank_prior
from human.lbs import SMPL_PARENTS
from human.mocap import read_motion_folder
from human.rng import generator
from human.rotations import matrix_to_rotvec, rotation_about, rotvec_to_matrix

JOINTS, SMPL_VERTICES = 22, 6890
FPS = 20.0
HIPS_SHOULDERS = [2, 1, 17, 16]
ITERATIONS, ROOT_ITERATIONS, STEP = 150, 20, 1e-2
JOINT_WEIGHT, PRIOR_WEIGHT, BEND_WEIGHT, SHAPE_WEIGHT, DEPTH_WEIGHT, SIGMA = 600.0, 4.78 * 1.5, 15.2, 5.0, 100.0, 100.0


def amass_batch(body: BodyModel, folder: Path, batch: int) -> Tensor:
    """(B, 22, 3) joints of evenly spaced frames; every clip starts at the origin, facing +z."""
    poses, roots, places = [], [], []
    for motion in read_motion_folder(folder):
        frames = np.arange(0, len(motion), max(1, round(motion.fps / FPS)))
        root = rotvec_to_matrix(torch.from_numpy(motion.global_orient[frames]))
        turn = rotation_about("y", -torch.atan2(root[0, 0, 2], root[0, 2, 2]))
        place = torch.from_numpy(motion.transl[frames])
        place = place - place[0] * torch.tensor([1.0, 0.0, 1.0])
        poses.append(torch.from_numpy(motion.body_pose[frames]))
        roots.append(matrix_to_rotvec(turn @ root))
        places.append(place @ turn.T)
    pose, root, place = torch.cat(poses), torch.cat(roots), torch.cat(places)
    if len(pose) < batch:
        raise PosesynError(
            f"benchmarks.fit: {folder} has {len(pose)} frames at {FPS:g} per second, {batch} are asked for"
        )
    rows = torch.linspace(0, len(pose) - 1, batch).round().long()
    rng = generator("benchmarks.fit")
    betas = torch.from_numpy(rng.normal(size=(batch, body.num_betas)).astype(np.float32))
    device = body.J_template.device
    inputs = (value.to(device) for value in (betas, pose[rows], root[rows], place[rows]))
    with torch.no_grad():
        return body.joints(*inputs)[:, :JOINTS]


def smpl_layer(body: BodyModel, batch: int) -> smplx.SMPL:
    """`smplx.SMPL` with 6,890 of the free body's vertices: those its joints are made of, and a random rest."""
    count = len(body.v_template)
    needed = torch.unique(body.get_buffer("rest_index")).cpu().numpy()
    others = np.setdiff1d(np.arange(count), needed)
    extra = generator("benchmarks.fit", "vertices").choice(others, SMPL_VERTICES - len(needed), replace=False)
    keep = np.sort(np.concatenate([needed, extra]))
    arrays = {name: getattr(body, name).cpu().numpy() for name in ("v_template", "shapedirs", "weights")}
    return smplx.SMPL(
        model_path="",
        data_struct=SimpleNamespace(
            f=np.zeros((1, 3), np.int64),
            **{name: value[keep] for name, value in arrays.items()},
            posedirs=np.zeros((len(keep), 3, 207), np.float32),
            J_regressor=body.J_regressor.cpu().numpy()[:, keep],
            kintree_table=np.array([SMPL_PARENTS, range(len(SMPL_PARENTS))]),
        ),
        batch_size=batch,
    ).to(body.J_template.device)


@dataclass
class Reference:
    """The algorithm of joints2smpl."""

    layer: smplx.SMPL
    optimiser: str
    iterations: int = ITERATIONS

    def __post_init__(self) -> None:
        prior = bank_prior().to(self.layer.v_template.device)
        self.mean, self.precision, self.offset = prior.mean, prior.precision, prior.offset

    def __call__(self, target: Tensor) -> Tensor:
        """(B, 22, 3) fitted joints."""
        batch = len(target)
        pose = self.mean[self.offset.argmin()].repeat(batch, 1)
        root, betas = torch.zeros_like(pose[:, :3]), target.new_zeros(batch, 10)
        start = pose.clone()

        def joints() -> Tensor:
            return self.layer(betas=betas, body_pose=pose, global_orient=root).joints

        with torch.no_grad():
            guess = (target[:, HIPS_SHOULDERS] - joints()[:, HIPS_SHOULDERS]).mean(1, keepdim=True)
        place = guess.clone()

        def root_loss() -> Tensor:
            away = (target - (joints()[:, :JOINTS] + place))[:, HIPS_SHOULDERS].square()
            return (away + DEPTH_WEIGHT**2 * (place - guess).square()).sum()

        def body_loss() -> Tensor:
            square = (joints()[:, :JOINTS] + place - target).square()
            data = JOINT_WEIGHT**2 * (SIGMA**2 * square / (SIGMA**2 + square)).sum((1, 2))
            bend = torch.exp(pose[:, [52, 55, 9, 12]] * pose.new_tensor([1.0, -1.0, -1.0, -1.0])).square().sum(1)
            loss = data + PRIOR_WEIGHT**2 * self.prior(pose) + BEND_WEIGHT**2 * bend
            if self.optimiser == "lbfgs":  # only this branch of theirs holds the pose near its start
                loss = loss + 25.0 * (pose - start).square().sum(1)
            return (loss + SHAPE_WEIGHT**2 * betas.square().sum(1)).sum()

        self.minimise(root_loss, [root, place], ROOT_ITERATIONS if self.optimiser == "adam" else 10)
        self.minimise(body_loss, [pose, betas, root, place], self.iterations)
        with torch.no_grad():
            return joints()[:, :JOINTS] + place

    def prior(self, pose: Tensor) -> Tensor:
        away = pose[:, None] - self.mean
        return (0.5 * (torch.einsum("mij,bmj->bmi", self.precision, away) * away).sum(-1) + 0.5 * self.offset).amin(1)

    def minimise(self, loss: Any, variables: list[Tensor], iterations: int) -> None:
        for variable in variables:
            variable.requires_grad_(True)
        if self.optimiser == "adam":
            optimiser: torch.optim.Optimizer = torch.optim.Adam(variables, lr=STEP)
        else:
            optimiser = torch.optim.LBFGS(variables, lr=STEP, max_iter=self.iterations, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimiser.zero_grad()
            value = loss()
            value.backward()
            return value

        for _ in range(iterations):
            optimiser.step(closure)  # type: ignore[arg-type]
        for variable in variables:
            variable.requires_grad_(False)


def seconds(run: Any, device: str, repeats: int) -> tuple[float, float, Any]:
    """Median wall time of `run`, its median CPU time, its last result."""
    walls, cpus, result = [], [], None
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        result = run()
        if device == "cuda":
            torch.cuda.synchronize()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus), result


def compare(amass: Path, batch: int, device: str, optimiser: str, iterations: int, repeats: int) -> dict[str, Any]:
    """Both on one batch, with the threads there are: rates, their quotient, errors in millimetres."""
    body = load_body("free").to(device)
    target = amass_batch(body, amass, batch)

    def ours() -> Tensor:
        return fit_joints3d(body, target).joints(body)[:, :JOINTS]

    ours()  # warm: the prior is made once per process
    ours_s, ours_cpu, ours_joints = seconds(ours, device, repeats)
    with contextlib.redirect_stdout(sys.stderr):  # smplx prints a warning
        layer = smpl_layer(body, batch)
    reference = Reference(layer, optimiser, iterations)
    with torch.no_grad():
        drift = reference.layer().joints[0, :JOINTS] - body.J_template[:JOINTS]
    assert drift.abs().max() < 1e-4, "the cut-down body must have the same joints"
    reference_s, reference_cpu, reference_joints = seconds(lambda: reference(target), device, 1)

    def error_mm(joints: Tensor) -> Tensor:
        return 1000 * (joints - target).norm(dim=-1).mean(1)

    theirs = error_mm(reference_joints)
    return {
        "batch": batch,
        "joints": JOINTS,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "ours_per_second": round(batch / ours_s, 1),
        "joints2smpl_per_second": round(batch / reference_s, 3),
        "fit_ratio": round(reference_s / ours_s, 1),
        "fit_ratio_cpu_time": round(reference_cpu / ours_cpu, 1),
        "ours_error_mm": round(float(error_mm(ours_joints).mean()), 3),
        "joints2smpl_error_mm": round(float(theirs.mean()), 3),
        "joints2smpl_median_error_mm": round(float(theirs.median()), 3),
        "joints2smpl_optimiser": optimiser,
        "joints2smpl_iterations": iterations,
        "vertices": SMPL_VERTICES,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = Path(__file__).resolve().parents[2] / "shared" / "data" / "samples" / "amass"
    parser.add_argument("--amass", type=Path, default=default, help="folder of AMASS .npz files")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--optimiser", default="adam", choices=["adam", "lbfgs"])
    parser.add_argument("--iterations", type=int, default=ITERATIONS, help="of the reference")
    parser.add_argument("--repeats", type=int, default=5, help="of ours; the median counts")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result = compare(args.amass, args.batch, args.device, args.optimiser, args.iterations, args.repeats)
    print(json.dumps({"benchmark": "fit", **result}))


if __name__ == "__main__":
    main()
