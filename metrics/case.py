"""A batch of persons, what is predicted of them, and the joints, meshes and pixels that a protocol compares."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from human.errors import PosesynError
from human.kid_template import find_kid_template, missing_kid_template
from human.skeleton import get_skeleton
from metrics.bodies import Posed, body_name, named
from metrics.protocols.base import Joints, Protocol
from metrics.truth import Predictions, Truth

_SMPL = ("smpl24", "pose32")
#: Skeletons whose joints are those of a source: what may be given in place of a body.
_SKELETONS: dict[str, tuple[str, ...]] = {
    "kinematic": _SMPL, "posed24": _SMPL, "neutral24": _SMPL, "h36m": ("h36m17",), "extra": (), "j19": (),
    "vertices": (), "smplx": ("smplx55",),
}  # fmt: skip


class NotMeasured(PosesynError):
    """This prediction lacks what the measure needs: a note in the table, not an end of the evaluation."""


@dataclass(frozen=True)
class Case:
    """B persons of a truth and what is predicted of them (row by row; NaN where nothing is), under a protocol."""

    protocol: Protocol
    truth: Truth
    predicted: Predictions

    # -- bodies ------------------------------------------------------------------------------------------------------
    @cached_property
    def truth_bodies(self) -> list[tuple[np.ndarray, Posed]]:
        """Rows and posed bodies, one pair for each gender that occurs."""
        truth = self.truth
        gender = np.asarray(truth["gender"]) if "gender" in truth.columns else np.zeros(len(truth), np.int8)
        if self.protocol.truth_body == "neutral":
            gender = np.zeros_like(gender)
        kid = np.zeros(len(truth), bool)
        if "kid_betas" in truth.columns:
            kid = np.isfinite(np.asarray(truth["kid_betas"])).all(1)
        out = self._children(gender, kid)
        for code in np.unique(gender[~kid]):
            rows = np.flatnonzero((gender == code) & ~kid)
            transl = truth["transl"][rows] if "transl" in truth.columns else None
            name = body_name(truth.body, int(code))
            posed = Posed(name, truth["pose"][rows], truth["betas"][rows], transl, self.protocol.truth_as)
            out.append((rows, posed))
        return out

    def _children(self, gender: np.ndarray, kid: np.ndarray) -> list[tuple[np.ndarray, Posed]]:
        """AGORA's: boys are male, girls neutral; their pelvis is where the labels have it."""
        truth, out = self.truth, []
        if kid.any() and find_kid_template(truth.body) is None:
            raise NotMeasured(missing_kid_template(truth.body))
        for boys in (False, True):
            rows = np.flatnonzero(kid & ((gender == 1) == boys))
            if not len(rows):
                continue
            name, numbers = f"{body_name(truth.body, int(boys))}_kid", (truth["pose"][rows], truth["kid_betas"][rows])
            labels = named(truth["native3d"][rows], truth.skeleton, ("pelvis",))[:, 0, :3]
            pelvis = Posed(name, *numbers).joints("kinematic", ("pelvis",))[:, 0]
            out.append((rows, Posed(name, *numbers, (labels - pelvis).numpy())))
        return out

    @cached_property
    def predicted_body(self) -> Posed:
        said = self.predicted
        if not said.body or said.pose is None or said.betas is None:
            raise NotMeasured("the predictions have no body parameters")
        mesh = self.protocol.truth_as if said.body.split("_")[0] != "free" else ""
        pose, betas = np.nan_to_num(said.pose), np.nan_to_num(said.betas)
        return Posed(said.body, pose, betas, None if said.transl is None else np.nan_to_num(said.transl), mesh)

    @cached_property
    def missing(self) -> Tensor:
        """(B,) bool: persons of whom what the protocol compares was not predicted."""
        said = self.predicted
        side = self.protocol.prediction
        if side.source == "labels":
            value = said.joints2d if self.flat else said.joints3d
            if value is None:
                raise NotMeasured(f"the predictions have no {'2D' if self.flat else '3D'} joints")
            return ~named(value, said.skeleton, self._own_names).isfinite().flatten(1).all(1)
        if said.pose is None:
            return ~self._given_joints(side).isfinite().flatten(1).all(1)
        return ~torch.as_tensor(np.isfinite(said.pose.reshape(len(said), -1)).all(1))

    # -- joints ------------------------------------------------------------------------------------------------------
    @property
    def flat(self) -> bool:
        """Whether pixels are compared."""
        return any(m.startswith(("pck@", "fg_", "parts_")) for m in self.protocol.metrics)

    @cached_property
    def _own_names(self) -> tuple[str, ...]:
        """Names of the compared joints as the predictions' skeleton has them."""
        names = self.protocol.prediction.names
        known = get_skeleton(self.predicted.skeleton).joints
        missing = [n for n in names if n not in known]
        if missing:
            raise NotMeasured(f"predictions of {self.predicted.skeleton} have no {', '.join(missing)}")
        return names

    def _truth_joints(self, joints: Joints) -> tuple[Tensor, Tensor]:
        """(B,J,3) metres and (B,J) confidence."""
        truth = self.truth
        if joints.source == "labels":
            column = str(self.protocol.settings.get("labels3d", "native3d"))
            values = named(truth[column], truth.skeleton, joints.names)
            return values[..., :3], values[..., 3]
        out = torch.full((len(truth), len(joints.names), 3), torch.nan, dtype=torch.float64)
        for rows, posed in self.truth_bodies:
            out[torch.as_tensor(rows)] = posed.joints(joints.source, joints.names)
        return out, torch.ones(out.shape[:2], dtype=torch.float64)

    def _predicted_joints(self, joints: Joints) -> Tensor:
        said = self.predicted
        if joints.source != "labels" and said.pose is not None:
            values = self.predicted_body.joints(joints.source, joints.names)
        else:
            values = self._given_joints(joints)
        return torch.where(self.missing[:, None, None], torch.nan, values)

    def _given_joints(self, joints: Joints) -> Tensor:
        """(B,J,3) of predictions without a body: a joint of one name is not the same joint in every skeleton."""
        said = self.predicted
        if said.joints3d is None:
            raise NotMeasured("the predictions have no body parameters, nor joints")
        fitting = _SKELETONS.get(joints.source, (said.skeleton,))
        if said.skeleton not in fitting:
            raise NotMeasured(
                f"the predictions have no body parameters, and their joints ({said.skeleton}) are not those of "
                f"{joints.source!r} ({' or '.join(fitting) or 'no skeleton has them'})"
            )
        known = get_skeleton(said.skeleton).joints
        if absent := [n for n in joints.names if n not in known]:
            raise NotMeasured(f"predictions of {said.skeleton} have no {', '.join(absent)}")
        return named(said.joints3d, said.skeleton, joints.names)

    @cached_property
    def truth_root(self) -> Tensor:
        """(B,1,3); NaN where a root joint is not labelled."""
        if not self.protocol.root:
            return torch.zeros(len(self.truth), 1, 3, dtype=torch.float64)
        values, conf = self._truth_joints(Joints(self.protocol.truth.source, self.protocol.root))
        return torch.where(conf[..., None] > 0, values, torch.nan).mean(1, keepdim=True)

    @cached_property
    def predicted_root(self) -> Tensor:
        names = self.protocol.prediction_root if self.protocol.prediction_root is not None else self.protocol.root
        if not names:
            return torch.zeros(len(self.truth), 1, 3, dtype=torch.float64)
        return self._predicted_joints(Joints(self.protocol.prediction.source, names)).mean(1, keepdim=True)

    @cached_property
    def _truth3d(self) -> tuple[Tensor, Tensor]:
        return self._truth_joints(self.protocol.truth)

    @cached_property
    def truth3d(self) -> Tensor:
        """(B,J,3) metres from the root."""
        return self._truth3d[0] - self.truth_root

    @cached_property
    def predicted3d(self) -> Tensor:
        return self._predicted_joints(self.protocol.prediction) - self.predicted_root

    @cached_property
    def weight(self) -> Tensor:
        """(B,J) of the labels that are compared."""
        conf = self._truth2d[..., 2] if self.flat else self._truth3d[1]
        if self.protocol.states:
            state = named(self.truth["state"][..., None], self.truth.skeleton, self.protocol.truth.names)[..., 0]
            conf = torch.where(torch.isin(state, torch.tensor(self.protocol.states).double()), conf, 0.0)
        conf = (conf > 0).double() if self.protocol.weights == "mask" else conf
        rooted = self.truth_root.isfinite().all(-1) if not self.flat else torch.ones(len(conf), 1, dtype=torch.bool)
        return torch.where(rooted, conf, 0.0)

    # -- meshes ------------------------------------------------------------------------------------------------------
    @cached_property
    def truth_vertices(self) -> Tensor:
        """(B,V,3) metres from the root."""
        count = self.truth_bodies[0][1].vertices.shape[1]
        out = torch.full((len(self.truth), count, 3), torch.nan, dtype=torch.float64)
        for rows, posed in self.truth_bodies:
            out[torch.as_tensor(rows)] = posed.vertices
        return out - self.truth_root

    @cached_property
    def predicted_vertices(self) -> Tensor:
        vertices = self.predicted_body.vertices
        if vertices.shape[1] != self.truth_vertices.shape[1]:
            raise NotMeasured(
                f"the predicted mesh ({self.predicted.body}) has {vertices.shape[1]} vertices, the truth's "
                f"({self.truth.body}) {self.truth_vertices.shape[1]}"
            )
        return torch.where(self.missing[:, None, None], torch.nan, vertices) - self.predicted_root

    # -- pixels ------------------------------------------------------------------------------------------------------
    @cached_property
    def _truth2d(self) -> Tensor:
        return named(self.truth["native2d"], self.truth.skeleton, self.protocol.truth.names)

    @property
    def truth2d(self) -> Tensor:
        """(B,J,2) px of the picture."""
        return self._truth2d[..., :2]

    @cached_property
    def predicted2d(self) -> Tensor:
        said = self.predicted
        if said.joints2d is None:
            raise NotMeasured("the predictions have no 2D joints")
        return named(said.joints2d, said.skeleton, self._own_names)

    @cached_property
    def normaliser(self) -> Tensor:
        """(B,) px."""
        from metrics.normalisers import normaliser

        return self.protocol.normaliser_scale * normaliser(self)

    @cached_property
    def segmented(self) -> Any:
        """(masks, parts): lists of (H,W) arrays, the predicted bodies as ``metrics.segmentation`` draws them."""
        from metrics.segmentation import draw

        return draw(self)
