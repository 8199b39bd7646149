"""The adversary of HMR and HMR 2.0: which poses and shapes are a person's.

Kanazawa et al., "End-to-end Recovery of Human Shape and Pose", CVPR 2018, §3.3: one discriminator per joint, one of all
joints together, one of the shape, least squares (Mao et al., ICCV 2017). The network is 4D-Humans'
(hmr2/models/discriminator.py), and so is the order of a step (hmr2/models/hmr2.py): both sides see what the regressor
said and the discriminator's weights of before the step. Hence one optimiser does for both, as elementwise ones move
each weight by its own gradient, and each side's term gives gradients to its own weights alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from human.errors import PosesynError
from human.motion import load_motion_bank
from human.rng import generator
from human.rotations import rotvec_to_matrix
from lightning_modules.ranks import rank_mean

JOINTS, SHAPES = 23, 10
#: 4D-Humans' factor on the discriminator's own loss.
DISCRIMINATOR_WEIGHT = 0.0005
#: 4D-Humans' names of its layers, and ours.
_LAYERS = {
    "D_conv1": "conv1", "D_conv2": "conv2", "betas_fc1": "shape_fc1", "betas_fc2": "shape_fc2", "betas_out":
    "shape_out", "D_alljoints_fc1": "all_fc1", "D_alljoints_fc2": "all_fc2", "D_alljoints_out": "all_out",
}  # fmt: skip


class PoseDiscriminator(nn.Module):
    """Rotation matrices (B,23,3,3) and betas (B,10) to 25 scores (B,25): of each joint, the shape, the whole pose; 1
    is a person's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Linear(9, 32), nn.Linear(32, 32)
        self.joint_weight = nn.Parameter(torch.empty(JOINTS, 32))
        self.joint_bias = nn.Parameter(torch.zeros(JOINTS))
        self.shape_fc1, self.shape_fc2, self.shape_out = nn.Linear(SHAPES, 10), nn.Linear(10, 5), nn.Linear(5, 1)
        self.all_fc1, self.all_fc2 = nn.Linear(32 * JOINTS, 1024), nn.Linear(1024, 1024)
        self.all_out = nn.Linear(1024, 1)
        for layer in self.children():
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        for row in self.joint_weight.data:  # 4D-Humans has a layer for each
            nn.init.xavier_uniform_(row[None])

    def forward(self, rotations_B2333: Tensor, betas_B10: Tensor) -> Tensor:
        x = rotations_B2333.flatten(2)
        x = self.conv2(self.conv1(x).relu()).relu()
        each = (x * self.joint_weight).sum(-1) + self.joint_bias
        shape = self.shape_out(self.shape_fc2(self.shape_fc1(betas_B10).relu()).relu())
        # the flat order is 4D-Humans': channel by channel, the joints of each
        whole = self.all_out(self.all_fc2(self.all_fc1(x.mT.flatten(1)).relu()).relu())
        return torch.cat([each, shape, whole], 1)

    def terms(
        self, rotations_B2333: Tensor, betas_B10: Tensor, real: tuple[Tensor, Tensor], weight_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the regressor has to lower, and what the discriminator has to: scalars, without factors.

        Args:
            rotations_B2333, betas_B10: what the regressor said, with gradients.
            real: rotations (R,23,3,3) and betas (R,10) of people; as many on every rank.
            weight_B: of the regressed samples.
        """
        with torch.autocast(rotations_B2333.device.type, enabled=False):
            said = rotations_B2333.float(), betas_B10.float()
            still = {name: p.detach() for name, p in self.named_parameters()}
            fooled = functional_call(self, still, said)
            fake = self(said[0].detach(), said[1].detach())
            true = self(*real)
        share_B1 = (weight_B / rank_mean(weight_B.sum()).clamp_min(1e-6))[:, None]
        regressor = ((fooled - 1).square() * share_B1).sum()
        own = (fake.square() * share_B1).sum() + (true - 1).square().sum(1).mean()
        return regressor, own

    @staticmethod
    def from_upstream(state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """The weights under our names, where ``state`` (whole checkpoint, or the part alone) has 4D-Humans'; what is
        missing there is missing here."""
        state = {k.removeprefix("discriminator."): v for k, v in state.items()}
        if "D_conv1.weight" not in state:
            return None
        kinds = ("weight", "bias")
        names = {f"{theirs}.{k}": f"{own}.{k}" for theirs, own in _LAYERS.items() for k in kinds}
        ours = {own: state[theirs] for theirs, own in names.items() if theirs in state}
        for name in ("conv1.weight", "conv2.weight"):
            if name in ours:
                ours[name] = ours[name].flatten(1)  # convolutions over single joints are linear layers
        for kind in kinds:
            each = [state[f"pose_out.{j}.{kind}"] for j in range(JOINTS) if f"pose_out.{j}.{kind}" in state]
            if len(each) == JOINTS:
                ours[f"joint_{kind}"] = torch.cat(each)
        return ours


class RealPeople(NamedTuple):
    """(N,23,3) rotation vectors, and (N,10) betas where the source knows them."""

    pose: np.ndarray
    betas: np.ndarray | None


@lru_cache(maxsize=4)
def real_people(names: tuple[str, ...]) -> RealPeople:
    """The poses of motion banks (:func:`human.motion.load_motion_bank`) or of files as 4D-Humans trains with:
    ``body_pose`` (N,72), the pelvis first, or (N,69), and ``betas`` (N,10) of SMPL. Read once per process.
    """
    parts = [_people_of(name) for name in names]
    if not sum(len(p.pose) for p in parts):
        raise PosesynError("mocap names no poses: the adversary needs real ones, for example mocap: [free]")
    known = [p.betas for p in parts if p.betas is not None]
    if 0 < len(known) < len(parts):
        raise PosesynError(
            f"mocap={list(names)}: some of these sources have shapes and some have none; give sources of one kind"
        )
    return RealPeople(np.concatenate([p.pose for p in parts]), np.concatenate(known) if known else None)


def _people_of(name: str) -> RealPeople:
    path = Path(name).expanduser()
    if path.suffix != ".npz" or not path.is_file():
        return RealPeople(load_motion_bank(name).poses, None)
    with np.load(path, allow_pickle=False) as file:
        if not {"body_pose", "betas"} <= set(file.files):
            return RealPeople(load_motion_bank(name).poses, None)
        pose, betas = file["body_pose"].astype(np.float32), file["betas"].astype(np.float32)
    if pose.ndim != 2 or pose.shape[1] not in (69, 72) or betas.shape != (len(pose), SHAPES):
        raise PosesynError(
            f"{path}: body_pose must be (N,72) or (N,69) and betas (N,{SHAPES}), they are {pose.shape} and "
            f"{betas.shape}"
        )
    if not (np.isfinite(pose).all() and np.isfinite(betas).all()):
        raise PosesynError(f"{path} holds poses or shapes that are not finite numbers")
    return RealPeople(pose[:, -69:].reshape(-1, JOINTS, 3), betas)


def draw_people(names: Sequence[str], count: int, device: torch.device, *key: int | str) -> tuple[Tensor, Tensor]:
    """``count`` people as rotations (B,23,3,3) and betas (B,10), a function of ``key``.

    Where no shapes are known they are drawn from a normal distribution, which is what betas (coordinates of principal
    components, in standard deviations) have by construction.
    """
    people, rng = real_people(tuple(names)), generator("real people", *key)
    rows = rng.integers(0, len(people.pose), count)
    betas = rng.standard_normal((count, SHAPES)) if people.betas is None else people.betas[rows]
    pose = torch.from_numpy(people.pose[rows]).to(device)
    return rotvec_to_matrix(pose), torch.from_numpy(betas.astype(np.float32)).to(device)
