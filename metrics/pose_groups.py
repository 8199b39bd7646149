"""Kinds of poses that can be told from labelled 2D joints, to say in words which people an estimator gets wrong.

Lengths are measured in torsos: the distance from the middle of the hips to that of the shoulders, which is short where
a person leans towards the camera or away from it. "Up" is the picture's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from human.skeleton import POSE32

Floats = NDArray[np.float64]

#: Name -> what is meant, in the order in which they are shown.
POSE_GROUPS: dict[str, str] = {
    "upright": "torso within 45 degrees of the picture's vertical",
    "lying or bent over": "torso 45 to 135 degrees from the picture's vertical",
    "upside down": "torso more than 135 degrees from the picture's vertical",
    "from the front": "the person's left shoulder on the picture's right, by a third of a torso (upright people)",
    "from behind": "the person's left shoulder on the picture's left, by a third of a torso (upright people)",
    "from the side": "shoulders nearer than a third of a torso across the body, hips than a quarter",
    "arm above the head": "a wrist farther along the body than the top of the head or 0.6 torsos beyond the shoulders",
    "arms crossed over": "each wrist on the other side of the other one, across the body",
    "leg raised": "an ankle less than 0.6 torsos below the hips, along the body",
    "crouching or sitting": "both ankles less than 1.1 torsos below the hips, along the body",
    "legs apart": "ankles more than 1.3 torsos apart",
    "towards the camera": "the torso shorter than a fifth of the box around the joints",
    "joints unlabelled": "a wrist, elbow, knee or ankle without a label",
}


def pose_groups(joints2d_NJ2: NDArray[np.floating], conf_NJ: NDArray[np.floating]) -> dict[str, NDArray[np.float32]]:
    """(N,) for each of :data:`POSE_GROUPS`: 1 member, 0 not, NaN where the joints that tell are not labelled.

    Args:
        joints2d_NJ2: POSE32, pixels; unlabelled joints may be junk.
        conf_NJ: above 0 where labelled.
    """
    joints = np.where(conf_NJ[..., None] > 0, joints2d_NJ2, np.nan).astype(np.float64)

    def at(name: str) -> Floats:
        return np.asarray(joints[:, POSE32.index(name)])

    def pair(name: str) -> tuple[Floats, Floats]:
        return at(f"left_{name}"), at(f"right_{name}")

    (l_hip, r_hip), (l_sho, r_sho) = pair("hip"), pair("shoulder")
    (l_ank, r_ank), (l_wri, r_wri) = pair("ankle"), pair("wrist")
    hips, shoulders = (l_hip + r_hip) / 2, (l_sho + r_sho) / 2
    along = shoulders - hips
    torso = np.linalg.norm(along, axis=1)
    torso = np.where(torso > 1e-6, torso, np.nan)
    unit = along / torso[:, None]
    across = np.stack([-unit[:, 1], unit[:, 0]], 1)  # to the person's left when seen from the front

    def reach(point: Floats, origin: Floats, axis: Floats) -> Floats:
        """Torsos from ``origin`` along ``axis``."""
        return np.asarray(((point - origin) * axis).sum(1) / torso)

    lean = np.degrees(np.arccos(np.clip(-unit[:, 1], -1, 1)))
    left = reach(l_sho, r_sho, across)
    drops = np.stack([-reach(ankle, hips, unit) for ankle in (l_ank, r_ank)], 1)
    head = reach(at("head_top"), shoulders, unit)
    head = np.where(np.isfinite(head), head, 0.6)
    lifts = np.stack([reach(wrist, shoulders, unit) - head for wrist in (l_wri, r_wri)], 1)
    known = np.asarray(np.isfinite(joints).all(2))
    with np.errstate(invalid="ignore"):
        low = np.where(known[..., None], joints, np.inf).min(1)
        high = np.where(known[..., None], joints, -np.inf).max(1)
        box = np.where(known.any(1), (high - low).max(1), np.nan)
        limbs = [POSE32.index(f"{s}_{p}") for s in ("left", "right") for p in ("wrist", "elbow", "knee", "ankle")]
        out = {
            "upright": _told(lean < 45, lean),
            "lying or bent over": _told((lean >= 45) & (lean <= 135), lean),
            "upside down": _told(lean > 135, lean),
            "from the front": _told((left > 1 / 3) & (lean < 45), left),
            "from behind": _told((left < -1 / 3) & (lean < 45), left),
            "from the side": _told((np.abs(left) < 1 / 3) & (np.abs(reach(l_hip, r_hip, across)) < 1 / 4), left),
            "arm above the head": _any(lifts > 0, lifts),
            "arms crossed over": _told(
                np.sign(left) * reach(l_wri, r_wri, across) < -0.2, left + reach(l_wri, r_wri, across)
            ),
            "leg raised": _any(drops < 0.6, drops),
            "crouching or sitting": _told(np.asarray((drops < 1.1).all(1)), drops.sum(1)),
            "legs apart": _told(np.linalg.norm(l_ank - r_ank, axis=1) / torso > 1.3, torso + (l_ank + r_ank).sum(1)),
            "towards the camera": _told(torso / box < 0.2, torso),
            "joints unlabelled": np.asarray(~known[:, limbs].all(1), np.float32),
        }
    return {name: out[name] for name in POSE_GROUPS}


def _told(member: NDArray[np.bool_], known: Floats) -> NDArray[np.float32]:
    """NaN where what tells is NaN."""
    return np.where(np.isfinite(known), member, np.nan).astype(np.float32)


def _any(member: NDArray[np.bool_], known: Floats) -> NDArray[np.float32]:
    """Of two limbs, one that is known and does it is enough; for "not" both must be known."""
    finite = np.isfinite(known)
    yes = (member & finite).any(1)
    return np.where(yes, 1.0, np.where(finite.all(1), 0.0, np.nan)).astype(np.float32)
