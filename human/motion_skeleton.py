"""The two skeletons of text-to-motion data, HumanML3D's and KIT's, and what their features are made of.

Sources: HumanML3D paramUtil.py and motion_representation.ipynb (Guo et al., CVPR 2022); for KIT the constants of the
same authors' motion_process.py. Frame: y up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from human.errors import PosesynError

CONTACTS = 4


@dataclass(frozen=True)
class FeatureLayout:
    """A skeleton and its feature vector: F = 4 + 3(J-1) + 6(J-1) + 3J + 4 numbers per frame.

    Attributes:
        name: "humanml3d" or "kit".
        chains: the kinematic chains from a joint outwards, upstream's order. A chain's rotations start from the
            pelvis's heading even where the chain starts at the chest.
        directions: (J, 3) unit vector of each joint from its parent where its rotation is identity.
        across: the joints right hip, left hip, right shoulder, left shoulder, which tell the heading.
        left_foot, right_foot: two joints each, in the order of the contact numbers.
        leg: two joints whose bones measure a person's size in `uniform_skeleton`.
        contact_threshold: squared length that a foot joint in contact moves less than from one frame to the next.
        fps: rate of the data.
        bone_lengths: (J,) of the data's one skeleton, each joint to its parent (the root's is 0); None if not known.
    """

    name: str
    chains: tuple[tuple[int, ...], ...]
    directions: tuple[tuple[int, int, int], ...] = field(repr=False)
    across: tuple[int, int, int, int]
    left_foot: tuple[int, int]
    right_foot: tuple[int, int]
    leg: tuple[int, int]
    contact_threshold: float
    fps: float
    bone_lengths: tuple[float, ...] | None = field(default=None, repr=False)

    @property
    def joints(self) -> int:
        """J, the number of joints."""
        return len(self.directions)

    @property
    def size(self) -> int:
        """F, the number of features: 263 for HumanML3D, 251 for KIT."""
        return self.slices["contacts"].stop

    @property
    def feet(self) -> tuple[int, int, int, int]:
        """The joints of the four contact numbers."""
        return (*self.left_foot, *self.right_foot)

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each group lies. "root" (4): half the heading's turn to the next frame (radians), the root's step on
        the ground (x, z), its height. "positions" 3(J-1): the other joints about the root's place on the ground.
        "rotations" 6(J-1): two columns of each joint's rotation. "velocities" 3J: steps of all joints. "contacts" 4."""
        sizes = {
            "root": 4,
            "positions": 3 * (self.joints - 1),
            "rotations": 6 * (self.joints - 1),
            "velocities": 3 * self.joints,
            "contacts": CONTACTS,
        }
        slices, at = {}, 0
        for name, size in sizes.items():
            slices[name] = slice(at, at + size)
            at += size
        return slices

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """(J,) the joint each hangs from, -1 for the root."""
        parents = [-1] * self.joints
        for chain in self.chains:
            for parent, child in pairwise(chain):
                parents[child] = parent
        return tuple(parents)

    def check_joints(self, joints_BTJ3: Tensor) -> None:
        """:class:`PosesynError` unless this is (B, T, J, 3) floating point with at least one frame."""
        shape = tuple(joints_BTJ3.shape)
        if len(shape) != 4 or shape[2:] != (self.joints, 3) or shape[1] == 0 or not joints_BTJ3.is_floating_point():
            raise PosesynError(
                f"{self.name} motions are floating-point joints of shape (B, T >= 1, {self.joints}, 3), "
                f"got {joints_BTJ3.dtype} of shape {shape}"
            )

    def check_features(self, features_BTF: Tensor) -> None:
        """:class:`PosesynError` unless this is (B, T, F) floating point."""
        shape = tuple(features_BTF.shape)
        if len(shape) != 3 or shape[2] != self.size or not features_BTF.is_floating_point():
            raise PosesynError(
                f"{self.name} features are floating-point numbers of shape (B, T, {self.size}), "
                f"got {features_BTF.dtype} of shape {shape}"
            )


# The lengths are those of HumanML3D's one skeleton (its clip 000021), in metres, measured on its published clip.
HUMANML3D = FeatureLayout(
    name="humanml3d",
    chains=((0, 2, 5, 8, 11), (0, 1, 4, 7, 10), (0, 3, 6, 9, 12, 15), (9, 14, 17, 19, 21), (9, 13, 16, 18, 20)),
    directions=(
        (0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, -1, 0), (0, 1, 0), (0, -1, 0), (0, -1, 0),
        (0, 1, 0), (0, 0, 1), (0, 0, 1), (0, 1, 0), (1, 0, 0), (-1, 0, 0), (0, 0, 1), (0, -1, 0), (0, -1, 0),
        (0, -1, 0), (0, -1, 0), (0, -1, 0), (0, -1, 0),
    ),
    across=(2, 1, 17, 16),
    left_foot=(7, 10),
    right_foot=(8, 11),
    leg=(5, 8),
    contact_threshold=0.002,
    fps=20.0,
    bone_lengths=(
        0.0, 0.1031, 0.1099, 0.1316, 0.3936, 0.3902, 0.1432, 0.4324, 0.4256, 0.0574, 0.1434, 0.1494, 0.2194, 0.1375,
        0.1434, 0.1030, 0.1316, 0.1230, 0.2568, 0.2631, 0.2660, 0.2699,
    ),
)  # fmt: skip

KIT = FeatureLayout(
    name="kit",
    chains=((0, 11, 12, 13, 14, 15), (0, 16, 17, 18, 19, 20), (0, 1, 2, 3, 4), (3, 5, 6, 7), (3, 8, 9, 10)),
    directions=(
        (0, 0, 0), (0, 1, 0), (0, 1, 0), (0, 1, 0), (0, 1, 0), (1, 0, 0), (0, -1, 0), (0, -1, 0), (-1, 0, 0),
        (0, -1, 0), (0, -1, 0), (1, 0, 0), (0, -1, 0), (0, -1, 0), (0, 0, 1), (0, 0, 1), (-1, 0, 0), (0, -1, 0),
        (0, -1, 0), (0, 0, 1), (0, 0, 1),
    ),
    across=(11, 16, 5, 8),
    left_foot=(19, 20),
    right_foot=(14, 15),
    leg=(17, 18),
    contact_threshold=0.05,
    fps=12.5,
)  # fmt: skip

LAYOUTS = {layout.name: layout for layout in (HUMANML3D, KIT)}


def get_layout(name: str) -> FeatureLayout:
    """The layout called ``name``; :class:`PosesynError` lists the known ones."""
    if name not in LAYOUTS:
        raise PosesynError(f"no motion feature layout is called {name!r}; known: {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def bone_lengths(joints: Tensor, layout: FeatureLayout = HUMANML3D) -> Tensor:
    """(..., J, 3) -> (..., J), each joint to its parent; the root's is 0."""
    parents = [max(p, 0) for p in layout.parents]
    return (joints - joints[..., parents, :]).norm(dim=-1)


def uniform_skeleton(joints_BTJ3: Tensor, lengths: Tensor, layout: FeatureLayout = HUMANML3D) -> Tensor:
    """The motion on a skeleton of other bone lengths, HumanML3D's `uniform_skeleton`: every bone keeps its direction,
    and the root's path is scaled by the ratio of the legs, measured on the first frame.

    Upstream goes through joint rotations, which give each bone its own direction back; this is the same in one step.
    A bone of length zero has no direction and stays so.

    Args:
        lengths: (J,) or (B, J) as `bone_lengths` gives.
    """
    layout.check_joints(joints_BTJ3)
    lengths = lengths.to(joints_BTJ3)
    if lengths.shape not in {(layout.joints,), (len(joints_BTJ3), layout.joints)}:
        raise PosesynError(
            f"uniform_skeleton needs {layout.joints} bone lengths, or that many for each of {len(joints_BTJ3)} motions,"
            f" got shape {tuple(lengths.shape)}"
        )
    lengths_BJ = lengths.expand(len(joints_BTJ3), -1)
    leg = list(layout.leg)
    old_leg = bone_lengths(joints_BTJ3[:, 0], layout)[:, leg].sum(-1)
    scale = lengths_BJ[:, leg].sum(-1) / old_leg.clamp_min(torch.finfo(old_leg.dtype).tiny)
    new: list[Tensor] = [joints_BTJ3[:, :, 0] * scale[:, None, None]] * layout.joints
    for chain in layout.chains:
        for parent, child in pairwise(chain):
            bone = joints_BTJ3[:, :, child] - joints_BTJ3[:, :, parent]
            direction = torch.nn.functional.normalize(bone, dim=-1)
            new[child] = new[parent] + direction * lengths_BJ[:, None, child, None]
    return torch.stack(new, dim=2)
