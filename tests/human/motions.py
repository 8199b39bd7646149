"""Made-up smooth motions of the feature skeletons."""

from __future__ import annotations

import torch
from torch import Tensor

from human.motion_features import FeatureLayout, turn_about_y


def smooth_motion(layout: FeatureLayout, batch: int, frames: int, seed: int) -> Tensor:
    """(B, T, J, 3) float32: a figure that walks along a curve, turns several times around and waves all its bones.

    The bones stay within about 60 degrees of their rest direction, hips and shoulders of level.
    """
    generator = torch.Generator().manual_seed(seed)

    def waves(*size: int) -> Tensor:
        """(B, T, *size), about -1 to 1, periods of 2 to 10 seconds."""
        rate = 0.03 + 0.12 * torch.rand(batch, 1, *size, generator=generator)
        phase = 6.28 * torch.rand(batch, 1, *size, generator=generator)
        return (torch.arange(frames).view(1, -1, *[1] * len(size)) * rate + phase).sin()

    lengths = 0.1 + 0.3 * torch.rand(batch, 1, layout.joints, 1, generator=generator)
    rest = torch.tensor(layout.directions, dtype=torch.float32)
    bones = lengths * torch.nn.functional.normalize(rest + 0.8 * waves(layout.joints, 3), dim=-1)
    joints: list[Tensor] = [torch.zeros(batch, frames, 3)] * layout.joints
    for joint, parent in sorted(enumerate(layout.parents), key=lambda pair: _depth(layout, pair[0])):
        if parent >= 0:
            joints[joint] = joints[parent] + bones[:, :, joint]
    figure = turn_about_y(torch.stack(joints, 2), 4.5 * waves() + 0.5)
    place = torch.cumsum(0.05 * waves(3), 1) * torch.tensor([1.0, 0.1, 1.0]) + torch.tensor([2.0, 1.0, -1.0])
    return figure + place[:, :, None]


def _depth(layout: FeatureLayout, joint: int) -> int:
    return 0 if joint == 0 else 1 + _depth(layout, layout.parents[joint])
