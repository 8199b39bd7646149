"""The target pose estimator (TPE) as a LightningModule: what every estimator shares.

An estimator is a network ``image -> (rotations, shape, camera)`` under this class; losses, the ``predict`` call that is
trained, mined, filtered and benchmarked, optimisation and validation are here once.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import lightning as L
import torch
from lightning.pytorch.strategies import FSDPStrategy
from safetensors.torch import save_file
from torch import Tensor, nn

from human.batch import PoseBatch
from human.body import load_body
from human.camera import FOCAL_CONVENTIONS, make_intrinsics, project, weak_to_translation
from human.errors import PosesynError
from human.prediction import Prediction
from human.registry import Registry
from human.rng import derive_seed
from human.rotations import matrix_to_rotvec
from lightning_modules.body_match import KEY, body_note, check_note, check_upstream, stored_note
from lightning_modules.checkpoints import check_state, read_checkpoint
from lightning_modules.domain_adaptation import DomainAdaptation
from lightning_modules.domain_training import DomainTraining
from lightning_modules.execution import compile_networks, frozen_names, recompute_blocks
from lightning_modules.losses import LossWeights, pose_losses
from lightning_modules.optimisation import GroupPlan, Optimisation, lr_factor, make_optimizer, stack_layers
from lightning_modules.ranks import rank_mean, same_statistics
from metrics.protocol import PoseScores

ESTIMATORS: Registry[type[PoseEstimator]] = Registry("tpe")


class Regression(NamedTuple):
    """What a network says: rotation matrices (B,24,3,3), ``betas`` (B,10), weak-perspective camera (B,3), and, where
    the network finds joints in the picture too, those (B,32,2) in pixels: they get a loss of their own.
    ``features`` (B,F) is what the pose was regressed from: with it an estimator can be trained with domain
    adaptation. ``extras``: anything else that the estimator's own losses need."""

    rotations: Tensor
    betas: Tensor
    weak: Tensor
    seen: Tensor | None = None
    log_heat: Tensor | None = None
    features: Tensor | None = None
    extras: Mapping[str, Tensor] = MappingProxyType({})


class Solution(NamedTuple):
    """A regression carried to joints and pixels: float32, with gradients, units and frames of ``Prediction``.

    ``rotations`` (B,24,3,3), ``betas`` (B,10), ``transl`` (B,3) of the pelvis under ``intrinsics`` (B,3,3),
    ``joints3d`` (B,32,3) relative to the pelvis, ``joints2d`` (B,32,2) pixels of the crop.
    """

    rotations: Tensor
    betas: Tensor
    transl: Tensor
    intrinsics: Tensor
    joints3d: Tensor
    joints2d: Tensor
    said: Regression


class PoseEstimator(DomainTraining):
    """Base of the estimators.

    Args:
        body: body model by name (``human.body.BODY_MODELS``).
        image_size: side of the crops, pixels.
        focal: focal-length convention of the weak-perspective camera (``human.camera.FOCAL_CONVENTIONS``).
        loss: weights of the loss terms.
        lr, weight_decay, warmup_steps: AdamW, with a linear warm-up and a cosine down to ``final_lr_fraction`` of
            ``lr`` at the trainer's last step; ``optimisation`` chooses others.
        optimisation: optimiser, schedule, and the groups of weights that learn at rates of their own.
        frozen: modules whose weights and batch statistics stay as they are: "backbone", "backbone.blocks.0", or
            "blocks.0" for short.
        gradient_checkpointing: compute the activations of the network's blocks again on the way back instead of
            keeping them: less memory, about a third more time.
        compile: run the network through ``torch.compile``; a dictionary: its arguments ({mode: max-autotune}).
        checkpoint: weights to start from: ``.safetensors``, a Lightning ``.ckpt`` or ``packaged:NAME``; names that
            differ from the model's are an error, and so are weights that were trained with another body.
        other_body: load these too, to train them for this body.
        domain: domain adaptation between the synthetic and the real samples; default: none.
    """

    #: How the original cuts its crops (:mod:`human.crop_scale`): what ``data.box_scale`` should be for its weights.
    crop_convention: str | None = None
    #: Whether the original code's checkpoints (:meth:`from_upstream`) say shape and pose of SMPL.
    upstream_body = False
    #: Beginnings of the names of weights that are not the network's: neither saved as weights nor loaded.
    not_predicting: tuple[str, ...] = ("body.", "domain.")

    def __init__(
        self,
        body: str = "free",
        image_size: int = 128,
        focal: str = "hmr2",
        loss: LossWeights | None = None,
        lr: float = 1e-4,
        weight_decay: float = 1e-4,
        warmup_steps: int = 50,
        final_lr_fraction: float = 0.1,
        checkpoint: str | None = None,
        other_body: bool = False,
        domain: DomainAdaptation | None = None,
        optimisation: Optimisation | None = None,
        frozen: list[str] | None = None,
        gradient_checkpointing: bool = False,
        compile: bool | dict[str, Any] = False,
    ) -> None:
        super().__init__(domain)
        if focal not in FOCAL_CONVENTIONS:
            raise PosesynError(f"focal={focal!r} is not a known convention; known: {', '.join(FOCAL_CONVENTIONS)}")
        self.body, self.body_name, self.other_body = load_body(body), body, other_body
        self.body.requires_grad_(False)
        self.image_size = image_size
        self.focal = FOCAL_CONVENTIONS[focal](image_size)
        self.loss_weights = loss or LossWeights()
        self.lr, self.weight_decay, self.warmup_steps = lr, weight_decay, warmup_steps
        self.final_lr_fraction = final_lr_fraction
        self.optimisation = optimisation or Optimisation()
        self.frozen = tuple(frozen or ())
        self.gradient_checkpointing, self.compiled = gradient_checkpointing, compile
        self.checkpoint = checkpoint
        self._still: tuple[str, ...] = ()  # full names of the frozen modules
        self._plan: GroupPlan | None = None
        self.scores: list[PoseScores] = []
        # Figures of the latest validation by loader; also those before the first step, which Lightning does not keep.
        self.last_scores: dict[str, dict[str, float]] = {}

    # -- what an estimator is made of: only `regress` has to be written -----------------------------------------------
    @abstractmethod
    def regress(self, batch: PoseBatch) -> Regression:
        """What the network says of the pictures of ``batch``. Labels are not looked at."""

    def place(self, weak_B3: Tensor, batch: PoseBatch) -> tuple[Tensor, Tensor]:
        """Where the network's camera puts the pelvis, (B,3) metres, under which intrinsics (B,3,3).

        Here: a camera in front of the middle of the crop, with the focal length of ``focal``.
        """
        focal = weak_B3.new_full((len(weak_B3),), self.focal)
        return weak_to_translation(weak_B3, focal, self.image_size), make_intrinsics(focal, self.image_size)

    def solve(self, batch: PoseBatch) -> Solution:
        """Network output carried to joints and pixels."""
        self.check_size(batch)
        said = self.regress(batch)
        rotations, betas = said.rotations.float(), said.betas.float()
        transl, intrinsics = self.place(said.weak.float(), batch)
        joints = self.body.joints(betas, rotations[:, 1:], rotations[:, 0], None)
        relative = joints - joints[:, :1]
        pixels = project(relative + transl[:, None], intrinsics)
        return Solution(rotations, betas, transl, intrinsics, relative, pixels, said)

    def networks(self) -> list[nn.Module]:
        """The modules that :meth:`regress` calls: what is compiled, recomputed and sharded. Here: every child of the
        estimator with weights.
        """
        return [
            child
            for name, child in self.named_children()
            if not f"{name}.".startswith(self.not_predicting) and next(child.parameters(), None) is not None
        ]

    def opponent(self) -> list[nn.Parameter]:
        """Weights that are trained against the network, in a group of their own and never clipped. Here: none."""
        return []

    def layer_of(self, name: str) -> int:
        """Number of the layer that a weight is in, for ``optimisation.layer_decay``: the first layer 0, heads last."""
        return stack_layers(tuple(n for n, _ in self._own_weights()))[name]

    def losses(self, out: Solution, batch: PoseBatch) -> dict[str, Tensor]:
        """The weighted terms of the loss by name; each masked by what a sample has."""
        return pose_losses(
            batch,
            joints2d_BJ2=out.joints2d,
            joints3d_BJ3=out.joints3d,
            global_orient_B33=out.rotations[:, 0],
            body_pose_B2333=out.rotations[:, 1:],
            betas_B10=out.betas,
            seen_BJ2=out.said.seen,
            log_heat_BJRC=out.said.log_heat,
            weights=self.loss_weights,
        )

    # -- the contract ------------------------------------------------------------------------------------------------
    def check_size(self, batch: PoseBatch) -> None:
        if batch.image.shape[-1] != self.image_size or batch.image.shape[-2] != self.image_size:
            raise PosesynError(
                f"{type(self).__name__} takes crops of {self.image_size} px, got {tuple(batch.image.shape[-2:])}: "
                "set the data's `image_size` and the model's to the same number"
            )

    def predict(self, batch: PoseBatch) -> Prediction:
        """What the estimator says of the pictures of ``batch``; labels are not looked at.

        The camera's translation is that of the pelvis. Gradients and train/eval mode are the caller's.
        """
        out = self.solve(batch)
        rotvec = matrix_to_rotvec(out.rotations)
        return Prediction(
            joints3d=out.joints3d,
            joints2d=out.joints2d,
            global_orient=rotvec[:, 0],
            body_pose=rotvec[:, 1:],
            betas=out.betas,
            transl=out.transl,
            intrinsics=out.intrinsics,
        )

    def forward(self, batch: PoseBatch) -> Prediction:
        return self.predict(batch)

    # -- training ----------------------------------------------------------------------------------------------------
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Dropout is a function of the step, not of what ran before: a resumed run draws what the whole run drew.
        seed = getattr(self._data, "seed", 0)
        torch.manual_seed(derive_seed(seed, "step", self.trainer.fit_loop.total_batch_idx, self.global_rank))

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        with torch.set_grad_enabled(self.trains().estimator):
            total, features = self._pose_loss(batch)
        return self.with_domain_loss(total, features, batch)

    def _pose_loss(self, batch: PoseBatch) -> tuple[Tensor, Tensor | None]:
        """The loss on the labels, and the features that the poses came from."""
        out = self.solve(batch)
        terms = self.losses(out, batch)
        each = torch.stack(list(terms.values()))
        told = rank_mean(each.detach())
        self.log_dict({f"loss/{k}": v for k, v in zip(terms, told, strict=True)}, batch_size=len(batch))
        self.log("loss/total", told.sum(), prog_bar=True, batch_size=len(batch))
        return each.sum(), out.said.features

    # -- validation: one PoseScores per loader, so that no loader's figures leak into another's ----------------------
    def setup(self, stage: str) -> None:
        if isinstance(self.trainer.strategy, FSDPStrategy):
            raise PosesynError(
                "trainer.strategy=fsdp leaves an estimator without weights between its training steps, where it is "
                "validated and mined with: say fsdp2"
            )
        names: list[str] = getattr(self._data, "validation_names", ["val"])
        if stage == "test":
            names = getattr(self._data, "test_names", []) or names
        self.scores = [PoseScores().to(self.device) for _ in names]
        self._score_names = names
        if stage == "fit":
            self.tell_domain(getattr(self._data, "synthetic_sources", None))

    def on_validation_epoch_start(self) -> None:
        same_statistics(self)
        for score in self.scores:
            score.reset()

    def validation_step(self, batch: PoseBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.scores[dataloader_idx].update(self.predict(batch), batch)

    def on_validation_epoch_end(self) -> None:
        self.last_scores = {name: score.compute() for name, score in zip(self._score_names, self.scores, strict=True)}
        for name, values in self.last_scores.items():
            self.log_dict({f"val/{name}/{key}": value for key, value in values.items()})

    on_test_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_validation_epoch_end

    def test_step(  # type: ignore[override]
        self, batch: PoseBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> Prediction:
        """What is predicted, for callbacks."""
        prediction = self.predict(batch)
        self.scores[dataloader_idx].update(prediction, batch)
        return prediction

    def predict_step(self, batch: PoseBatch, batch_idx: int, dataloader_idx: int = 0) -> Prediction:
        return self.predict(batch)

    # -- optimisation and weights ------------------------------------------------------------------------------------
    def configure_optimizers(self) -> Any:
        plan = self._plan or self._make_plan()
        groups = plan.groups(self._own_weights(), self.lr, self.weight_decay)
        if self.domain is not None:
            mixer, _ = self.split_parameters()
            groups.append({"params": mixer, "weight_decay": self.weight_decay, "lr": self.domain.lr})
        if opponent := self.opponent():
            groups.append({"params": opponent, "weight_decay": self.weight_decay, "lr": self.lr})
        optimizer = make_optimizer(groups, self.optimisation, self.lr)
        factor = lr_factor(self.optimisation, self.warmup_steps, self.final_lr_fraction, self.total_steps())
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _own_weights(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((n, p) for n, p in self.named_parameters() if not n.startswith(self.not_predicting))

    def _make_plan(self) -> GroupPlan:
        return GroupPlan(dict(self._own_weights()), self.optimisation, self.layer_of)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for name in self._still:
            self.get_submodule(name).eval()
        return self

    @property
    def _data(self) -> L.LightningDataModule | None:
        return getattr(self.trainer, "datamodule", None)

    def total_steps(self) -> int:
        """Optimiser steps of the whole run, for the schedule."""
        trainer, data = self.trainer, self._data
        if trainer.max_steps > 0:
            return trainer.max_steps
        if data is not None and hasattr(data, "steps_per_epoch") and trainer.max_epochs and trainer.max_epochs > 0:
            return max(1, trainer.max_epochs * data.steps_per_epoch // trainer.accumulate_grad_batches)
        return max(1, int(trainer.estimated_stepping_batches))

    def trained_state(self) -> dict[str, Tensor]:
        """The state dict of what predicts: without the domain mixer, and without the body model, which is loaded from
        its own file (and has its own licence).
        """
        state = {}
        # Not state_dict(): where weights are sharded it holds shards, also between sharding.whole_weights.
        for path, module in self.named_modules():
            for name, value in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
                if name not in module._non_persistent_buffers_set:
                    state[f"{path}.{name}" if path else name] = value.detach()
        return {k: v for k, v in state.items() if not k.startswith(self.not_predicting)}

    def weights_hash(self) -> str:
        """16 hex digits that name the present weights; stored with every synthetic sample."""
        digest = hashlib.sha256()
        for name, value in sorted(self.trained_state().items()):
            digest.update(name.encode())
            digest.update(value.to("cpu", copy=True).contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def load_initial_weights(self) -> None:
        """Load ``checkpoint``, freeze, fit the domain mixer to the network, and set how the network runs; an estimator
        calls this as the last thing in its constructor, once its network exists, and then ``self.train()``.

        Not in a hook: averaged weights are copied and the first mining runs before the module's own hooks.
        """
        if self.checkpoint is not None:
            self.load_weights(self.checkpoint)
        self._still = frozen_names(self, self.frozen)
        for name in self._still:
            self.get_submodule(name).requires_grad_(False)
        self._plan = self._make_plan()
        self.build_domain()
        if self.gradient_checkpointing:
            recompute_blocks(self.networks(), type(self).__name__)
        if self.compiled:
            compile_networks(self.networks(), self.compiled)

    def load_weights(self, path: str | Path) -> None:
        """Load ``.safetensors``, a Lightning ``.ckpt`` or the original code's checkpoint (:meth:`from_upstream`).

        ``packaged:NAME`` means weights that ship with posesyn (``lightning_modules/weights``). Raises
        :class:`PosesynError`, which lists what differs.
        """
        path, read = read_checkpoint(path)
        upstream = self.from_upstream(read)
        state = upstream or read
        state = {k: v for k, v in state.items() if not k.startswith(self.not_predicting)}
        own = self.trained_state()
        check_state(state, own, path, type(self).__name__)
        if not self.other_body:
            if upstream is not None and self.upstream_body:
                check_upstream(read, self.body_name, self.body, f"checkpoint {path}")
            check_note(stored_note(path), self.body_name, self.body, f"checkpoint {path}")
        self.load_state_dict({k: v.to(own[k].dtype) for k, v in state.items()}, strict=False)

    def save_weights(self, path: str | Path) -> None:
        """Write ``.safetensors``: what predicts, and which body it was trained with."""
        note = {f"{KEY}.{k}": v for k, v in body_note(self.body_name, self.body).items()}
        save_file({k: v.contiguous() for k, v in self.trained_state().items()}, path, note)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = body_note(self.body_name, self.body)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if not self.other_body:
            check_note(checkpoint.get(KEY), self.body_name, self.body, "the checkpoint of the run to resume")

    @classmethod
    def from_upstream(cls, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """The tensors under our names, where ``state`` is laid out as the original code's checkpoints; else None."""
        return None
