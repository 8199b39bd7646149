"""Single poses for pose priors: frames of motion and draws of the pose space, by key."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cached_property

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from human.errors import PosesynError
from human.motion import MotionBank, load_motion_bank, mirror_pose
from human.rng import generator
from synth.pose_space import free_pose_space

#: Seeds of the pose space's sequences: what is validated is never trained on.
_TRAINED, _VALIDATED = 1, 2


class PoseBatches(IterableDataset):  # type: ignore[type-arg]
    """``steps`` batches (B, 23, 3) per epoch; batch b of epoch e on a rank is a function of the seed and these."""

    def __init__(self, data: PoseVectors) -> None:
        self.data = data

    def __len__(self) -> int:
        return self.data.steps_per_epoch

    def __iter__(self) -> Iterator[Tensor]:
        trainer = self.data.trainer
        epoch, rank = (trainer.current_epoch, trainer.global_rank) if trainer else (0, 0)
        for step in range(len(self)):
            yield self.data.batch(generator("poses", self.data.seed, rank, epoch, step))


class PoseVectors(L.LightningDataModule):
    """Poses as rotation vectors (B, 23, 3) of SMPL's body joints.

    Args:
        motion: motion banks: "free", a folder of motion files, a file, a saved bank.
        held_out: patterns of clip names ("03_*") that are validated on, and not trained on.
        sampled: poses drawn from the packaged pose space to train on beside the motion, all different.
        sampled_share: of these in a batch.
        noise: degrees; standard deviation of the noise on each joint of a training pose, itself drawn below this.
        validate: further banks that are validated on, each on its own, by name.
        batch_size: on each rank.
        steps_per_epoch: poses have no order and an epoch no end of its own.
        seed: of all draws.
    """

    def __init__(
        self,
        motion: list[str] | None = None,
        held_out: list[str] | None = None,
        sampled: int = 40_000,
        sampled_share: float = 0.5,
        noise: float = 0.0,
        validate: dict[str, str] | None = None,
        batch_size: int = 256,
        steps_per_epoch: int = 200,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 2 or steps_per_epoch < 1 or sampled < 0 or not 0 <= sampled_share <= 1 or not noise >= 0:
            raise PosesynError(
                "pose data need batch_size >= 2, steps_per_epoch >= 1, sampled >= 0, sampled_share in 0 .. 1 and "
                f"noise >= 0, got {batch_size}, {steps_per_epoch}, {sampled}, {sampled_share} and {noise}"
            )
        if sampled_share > 0 and sampled == 0:
            raise PosesynError("pose data: sampled_share asks for draws of the pose space; set `sampled` above 0")
        self.motion, self.held_out_names, self.validate = motion or ["free"], held_out or [], validate or {}
        self.sampled, self.sampled_share, self.noise = sampled, sampled_share, noise
        self.batch_size, self.steps_per_epoch, self.seed = batch_size, steps_per_epoch, seed

    @cached_property
    def _split(self) -> tuple[np.ndarray, np.ndarray]:
        """(N, 23, 3) trained on and (M, 23, 3) held out, of the motion."""
        trained, held = [], []
        for name in self.motion:
            bank = load_motion_bank(name)
            out = np.array([any(fnmatch(n, p) for p in self.held_out_names) for n in bank.clip_names])[bank.clip]
            trained.append(bank.poses[~out])
            held.append(bank.poses[out])
        train, rest = np.concatenate(trained), np.concatenate(held)
        if len(train) == 0:
            raise PosesynError(f"pose data: held_out={self.held_out_names} leaves nothing to train on")
        if self.held_out_names and len(rest) == 0:
            raise PosesynError(f"pose data: no clip of {self.motion} is called {', '.join(self.held_out_names)}")
        return train, rest

    @cached_property
    def _drawn(self) -> np.ndarray:
        return free_pose_space().sample(self.sampled, _TRAINED)[0] if self.sampled else np.zeros((0, 23, 3), np.float32)

    def batch(self, rng: np.random.Generator) -> Tensor:
        """One training batch."""
        motion, drawn = self._split[0], self._drawn
        from_space = rng.random(self.batch_size) < self.sampled_share
        u = rng.random(self.batch_size)
        pose = motion[(u * len(motion)).astype(np.int64)]
        if from_space.any():
            pose = np.where(from_space[:, None, None], drawn[(u * len(drawn)).astype(np.int64)], pose)
        pose = np.where(rng.random((self.batch_size, 1, 1)) < 0.5, mirror_pose(pose), pose)
        if self.noise:
            spread = np.deg2rad(self.noise) * rng.random((self.batch_size, 1, 1))
            pose = pose + spread * rng.standard_normal(pose.shape)
        return torch.from_numpy(pose.astype(np.float32))

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(PoseBatches(self), batch_size=None)

    @cached_property
    def validation_sets(self) -> dict[str, Tensor]:
        """What is validated on, by name."""
        _, held = self._split
        sets: dict[str, np.ndarray] = {"held_out": held} if self.held_out_names else {}
        if self.sampled:
            sets["pose_space"] = free_pose_space().sample(1000, _VALIDATED)[0]
        banks: dict[str, MotionBank] = {name: load_motion_bank(path) for name, path in self.validate.items()}
        sets |= {name: bank.poses for name, bank in banks.items()}
        return {name: torch.from_numpy(np.array(poses)) for name, poses in sets.items()}

    def val_dataloader(self) -> list[DataLoader[tuple[Tensor, ...]]]:
        return [DataLoader(TensorDataset(poses), self.batch_size) for poses in self.validation_sets.values()]
