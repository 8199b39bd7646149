"""Persons and an estimator of which everything is known, for tests of mining and refreshing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from human.batch import PoseBatch
from human.prediction import Prediction


class People:
    """Crops in memory (:class:`synth.eem.MiningData`); the first pixels of person i's picture spell i."""

    name = "people"

    def __init__(self, batch: PoseBatch, people: Sequence[int] | None = None) -> None:
        image = batch.image.clone()
        numbers = torch.arange(len(batch))
        image[:, 0, 0, 0], image[:, 1, 0, 0] = (numbers % 256).byte(), (numbers // 256).byte()
        self.batch = batch.replace(image=image)
        self.people = np.ones(len(batch), np.int16) if people is None else np.asarray(people, np.int16)

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def ids(self) -> list[str]:
        return [f"people/{i}" for i in range(len(self))]

    @property
    def labelled(self) -> np.ndarray:
        return self.batch.joints2d_conf.numpy() > 0

    def crops(self, indices: np.ndarray) -> PoseBatch:
        return self.batch[torch.from_numpy(np.asarray(indices))]


class Recall(nn.Module):
    """An estimator that knows one prediction by heart for each of :class:`People`, as its parameters; with ``guesses``
    it takes strangers for one of them.
    """

    guesses = False

    def __init__(
        self, joints2d_NJ2: Tensor, joints3d_NJ3: Tensor | None = None, global_orient_N3: Tensor | None = None
    ) -> None:
        super().__init__()
        n = len(joints2d_NJ2)
        self.joints2d = nn.Parameter(joints2d_NJ2.clone().float())
        self.joints3d = nn.Parameter(torch.zeros(n, 32, 3) if joints3d_NJ3 is None else joints3d_NJ3.clone())
        self.orient = torch.zeros(n, 3) if global_orient_N3 is None else global_orient_N3
        self.noise = nn.Dropout(0.5)
        self.grads: list[bool] = []

    def predict(self, batch: PoseBatch) -> Prediction:
        row = batch.image[:, 0, 0, 0].long() + 256 * batch.image[:, 1, 0, 0].long()
        row = row % len(self.joints2d) if self.guesses else row
        self.grads.append(torch.is_grad_enabled())
        n = len(row)
        return Prediction(
            joints3d=self.joints3d[row],
            joints2d=self.noise(self.joints2d[row]),  # in train mode half of it would be 0
            global_orient=self.orient[row],
            body_pose=torch.zeros(n, 23, 3),
            betas=torch.zeros(n, 10),
            transl=torch.zeros(n, 3),
            intrinsics=torch.eye(3).repeat(n, 1, 1),
        )


def random_people(count: int, seed: int = 0, labelled: float = 1.0, size: int = 16) -> PoseBatch:
    """Random 2D labels, a share of them there; the others are junk and NaN."""
    rng = torch.Generator().manual_seed(seed)
    batch = PoseBatch.blank(count, size)
    conf = (torch.rand(count, 32, generator=rng) < labelled).float()
    joints = torch.rand(count, 32, 2, generator=rng) * 100
    junk = torch.where(torch.rand(count, 32, 1, generator=rng) < 0.5, torch.tensor(torch.nan), torch.tensor(-1e6))
    joints = torch.where(conf[..., None] > 0, joints, junk)
    return batch.replace(joints2d=joints, joints2d_conf=conf)
