"""What the tests of protocols on bodies share: predictions made from the truth, right and wrong in a known way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from datamodules.readers.base import PoseReader
from human.regressors import joint_names, regress
from human.skeleton import H36M17, POSE32, get_skeleton
from metrics.bodies import Posed, body_name
from metrics.evaluation import Figure, evaluate
from metrics.protocols import Protocol, protocols_of
from metrics.truth import GENDERS, Predictions, Truth

Array = np.ndarray


def by_gender(truth: Truth) -> list[tuple[str, Truth]]:
    """The persons of each gender, with the name of the body they are: predictions are of one body."""
    codes = np.asarray(truth["gender"])
    return [(body_name(truth.body, int(c)), truth.rows(np.flatnonzero(codes == c))) for c in np.unique(codes)]


def own(truth: Truth, body: str) -> Predictions:
    """The truth's own parameters, said to be of ``body``."""
    parameters = {name: np.array(truth[name], np.float64) for name in ("pose", "betas", "transl")}
    return Predictions(list(truth.ids), body=body, **parameters)


def turned(said: Predictions, degrees: float = 30.0) -> Predictions:
    """The bodies turned about a slanted axis of the camera."""
    turn = Rotation.from_rotvec(np.deg2rad(degrees) * np.array([0.6, 0.8, 0.0]))
    assert said.pose is not None
    pose = said.pose.copy()
    pose[:, 0] = (turn * Rotation.from_rotvec(pose[:, 0])).as_rotvec()
    return replace(said, pose=pose)


def joints_only(truth: Truth, protocol: Protocol, mesh: str = "") -> Predictions:
    """The truth's joints as ``protocol`` takes them from each person's own body, in a skeleton that has their names."""
    source = protocol.truth.source
    skeleton = "h36m17" if source == "h36m" else "pose32"
    out = None
    for code in np.unique(truth["gender"]):
        name = body_name(truth.body, 0 if protocol.truth_body == "neutral" else int(code))
        rows = np.flatnonzero(truth["gender"] == code)
        posed = Posed(name, truth["pose"][rows], truth["betas"][rows], truth["transl"][rows], mesh)
        if source == "h36m":
            joints = h36m17(posed)
        else:
            names = POSE32.joints if source == "kinematic" else POSE32.joints[:24]
            joints = posed.joints(source, names).numpy()
        out = np.full((len(truth), 17 if source == "h36m" else 32, 3), np.nan) if out is None else out
        out[rows, : joints.shape[1]] = joints
    return Predictions(list(truth.ids), skeleton=skeleton, joints3d=out)


def h36m17(posed: Posed) -> Array:
    """The regressor's 17 rows in the order of the skeleton of that name."""
    rows = regress(posed.vertices, "h36m", posed.mesh_body)
    return rows[:, [joint_names("h36m").index(name) for name in H36M17.joints]].numpy()


def shifted(said: Predictions, but: tuple[str, ...], metres: float = 0.03) -> Predictions:
    """All joints but those named moved to the camera's right."""
    assert said.joints3d is not None
    joints = said.joints3d.copy()
    keep = get_skeleton(said.skeleton).indices(*but)
    joints[:, np.setdiff1d(np.arange(joints.shape[1]), keep), 0] += metres
    return replace(said, joints3d=joints)


def figures(protocol: Protocol, said: Predictions, truth: Truth) -> dict[str, Figure]:
    """By metric; every metric of the protocol must have been taken. Acceleration has tests of its own: most of these
    tracks are too short for it."""
    protocol = replace(protocol, metrics=tuple(m for m in protocol.metrics if m != "accel"))
    out = {figure.metric: figure for figure in evaluate(protocol, said, truth).figures(resamples=20)}
    assert list(out) == list(protocol.metrics)
    return out


def assert_perfect(protocol: Protocol, said: Predictions, truth: Truth) -> None:
    for figure in figures(protocol, said, truth).values():
        goal = 100.0 if figure.unit == "%" else 0.0
        # Angles are an arc cosine, which takes the root of the rounding.
        assert abs(figure.value - goal) < (1e-4 if figure.unit == "deg" else 1e-5), figure
        assert (figure.count, figure.missing) == (len(truth), 0)


def of_set(dataset: str, split: str) -> list[Protocol]:
    return [p for p in protocols_of(dataset) if p.split == split]


def assert_turned(protocol: Protocol, truth: Truth, body: str, posed_of: Callable[[Truth, str], Posed]) -> None:
    """A body turned by 30 degrees about its pelvis: what every measure must give follows from the truth's geometry."""
    got = figures(protocol, turned(own(truth, body)), truth)
    posed = posed_of(truth, body)
    turn = Rotation.from_rotvec(np.deg2rad(30) * np.array([0.6, 0.8, 0.0])).as_matrix()

    def moved(points: Any, root: Any) -> float:
        """mm that points move when the body turns about its root joint."""
        offset = (points - root).numpy()
        return 1000 * float(np.linalg.norm(offset @ turn.T - offset, axis=-1).mean())

    source = protocol.truth.source
    root = posed.joints(source, protocol.root).mean(1, keepdim=True)
    expected = {
        "mpjpe": moved(posed.joints(source, protocol.truth.names), root),
        "pa_mpjpe": 0.0,
        "pve": moved(posed.vertices, root),
        "pa_pve": 0.0,
        "mpjae": 30.0,
        "pa_mpjae": 0.0,
    }
    for name, figure in got.items():
        if name in expected:
            assert abs(figure.value - expected[name]) < 1e-4, figure
    assert got["mpjpe"].value > 20


def truth_of(reader: PoseReader) -> Truth:
    truth = reader.truth()
    assert {int(c) for c in np.unique(truth["gender"])} <= set(range(len(GENDERS)))
    return truth


def posed_truth(protocol: Protocol) -> Callable[[Truth, str], Posed]:
    def make(truth: Truth, body: str) -> Posed:
        with torch.no_grad():
            return Posed(body, truth["pose"], truth["betas"], truth["transl"], protocol.truth_as)

    return make
