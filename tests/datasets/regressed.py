"""Joints that data sets label, taken from a body's vertices by the regressor of Human3.6M's joints.

So the true body, put through a protocol's regressor, is the label.
"""

from __future__ import annotations

import numpy as np

from human.regressors import FILES
from human.skeleton import H36M17
from tests.datasets.people import Array, People, h36m_rows

#: Rows of the regressor in the order of Human3.6M's data set (the file has the left leg first).
_ORDER = [FILES["h36m"].joints.index(joint) for joint in H36M17.joints]


def h36m_joints(people: People, person: int) -> Array:
    """(F,17,3) metres in the world's frame, in the order of ``H36M17``."""
    return np.asarray(np.einsum("jv,fvc->fjc", h36m_rows()[_ORDER], people.world_vertices(person)))


def as_skeleton(h36m_F17: Array, joints: tuple[str, ...], same: dict[str, str]) -> Array:
    """(F,J,C): joints by name, those of another name from ``same``, the rest 5 cm from the pelvis."""
    out = np.repeat(h36m_F17[:, :1], len(joints), 1) + 0.05
    for i, joint in enumerate(joints):
        source = same.get(joint, joint)
        if source in H36M17.joints:
            out[:, i] = h36m_F17[:, H36M17.index(source)]
    return out
