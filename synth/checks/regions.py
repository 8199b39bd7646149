"""Parts of a picture that look like people and are not the labelled one.

A keypoint detector overlooks who bends, crawls or is half hidden. A segmentation of people does not care about poses,
but takes cups and curtains for people too. Together they tell: where the segmentation sees somebody off the labelled
body, in several views of the picture, the detector looks along that region's own axis, and a logistic regression weighs
what both say (`scripts/fit_person_regions.py` fits it on rendered pictures with and without a second person).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from human.batch import PoseBatch
from human.blazepose import Picture
from human.crop import Array, crop_affine, warp_image
from human.keypoints import People
from human.person_mask import PersonMask
from human.skeleton import COCO17, LIMB_JOINTS
from synth.checks.seen import Watcher

Mask = npt.NDArray[np.bool_]

FIGURES = ("log_area", "mask_mean", "mask_least", "looks_mean", "looks_best", "edge", "ring")
#: What each figure adds to the log odds that a region is a person, and what they start from.
WEIGHTS = (-0.277, 3.669, 1.570, 6.099, 0.267, -3.916, -7.450)
BIAS = -2.973
#: Somebody upright, seen from the front, hips at (0, 0) and feet at (., 1): COCO's face, then pairs from the shoulders.
_HEIGHTS = {"shoulder": (0.2, -0.55), "elbow": (0.25, -0.25), "wrist": (0.25, 0.0), "hip": (0.12, 0.0),
            "knee": (0.12, 0.5), "ankle": (0.12, 1.0)}  # fmt: skip
UPRIGHT = np.array([(0.0, -0.75)] * 5 + [(sign * x, y) for x, y in _HEIGHTS.values() for sign in (1, -1)])
LIMBS = np.isin(COCO17.joints, LIMB_JOINTS)
#: Mean mask from which pixels are a region's.
_SEEN = 0.35
#: Shares of the picture that a region covers, and how many of a picture are looked at, largest first.
_SMALLEST, _LARGEST, _MOST = 0.002, 0.25, 3
#: Width, per side of the picture, of the seam about the labelled body that is not looked at, and of specks that are no
#: region; of the ring about a region; of the margin within which a joint is a region's.
_SEAM, _SPECK, _RING, _MARGIN = 0.05, 0.02, 0.04, 0.03
#: Side of the close view per longer side of the labelled box.
_CLOSE = 1.8
#: Length of a standing person from crown to ankles, where hips to ankles are 1; their middle is so far below the hips.
_STATURE, _MIDDLE = 1.75, 0.1


def limb_belief(people: People) -> Array:
    """(P,) mean confidence of the limbs' joints."""
    return people.conf[:, LIMBS].mean(1)


def limbs_on(points_J2: Array, mask_HW: np.ndarray) -> tuple[int, int]:
    """How many of the limbs' joints lie in the picture, and on the mask."""
    height, width = mask_HW.shape
    at = points_J2[LIMBS].round().clip(-1, 1e5).astype(int)
    at = at[(at >= 0).all(1) & (at[:, 0] < width) & (at[:, 1] < height)]
    return len(at), int((mask_HW[at[:, 1], at[:, 0]] > 0).sum())


@dataclass(frozen=True)
class Region:
    """``mask`` (H,W) bool; ``views`` (V,) mean of each view's mask on it; ``ring``: mean mask around it."""

    mask: Mask
    views: Array
    ring: float

    @cached_property
    def middle(self) -> Array:
        rows, columns = np.nonzero(self.mask)
        return np.array([columns.mean(), rows.mean()])

    @cached_property
    def axis(self) -> tuple[Array, float]:
        """Unit vector (2,) along which it is longest, and that length in px."""
        rows, columns = np.nonzero(self.mask)
        away = np.stack([columns, rows], 1) - self.middle
        spread, axes = np.linalg.eigh(away.T @ away / len(away))
        return axes[:, 1], 4 * float(np.sqrt(max(spread[1], 1.0)))

    def places(self) -> Array:
        """(6,17,2) who may be there: a person along the axis, head at either end, and an upright one, in two sizes."""
        axis, length = self.axis
        turn = float(np.arctan2(axis[1], axis[0])) - np.pi / 2
        found = []
        for angle in (turn, turn + np.pi, 0.0):
            rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            for size in (1.0, 1.5):
                person = (UPRIGHT - np.array([0.0, _MIDDLE])) * (length * size / _STATURE)
                found.append(person @ rotation.T + self.middle)
        return np.stack(found)

    def figures(self, looks: People) -> Array:
        """(F,) of :data:`FIGURES`; ``looks``: what the detector sees at :meth:`places`."""
        near = _grown(self.mask, _MARGIN)
        shares = np.array([limbs_on(points, near)[1] for points in looks.points]) / LIMBS.sum()
        belief = limb_belief(looks)
        area = float(self.mask.sum())
        border = sum(int(line.sum()) for line in (self.mask[0], self.mask[-1], self.mask[:, 0], self.mask[:, -1]))
        return np.array([
            np.log(area / self.mask.size),
            self.views.mean(),
            self.views.min(),
            float((belief * shares).mean()) if len(looks) else 0.0,
            float(belief[shares > 0.5].max(initial=0.0)),
            border / np.sqrt(area),
            self.ring,
        ])  # fmt: skip


class Regions:
    """Figures of the regions of pictures.

    Args:
        watcher: the detector that looks at them.
        smallest: length, per longer side of the picture, from which a region is looked at.
    """

    def __init__(self, watcher: Watcher, smallest: float = 0.12) -> None:
        self._watcher, self.smallest = watcher, smallest

    @cached_property
    def _mask(self) -> PersonMask:
        return PersonMask()

    def __call__(self, batch: PoseBatch, hidden_BHW3: np.ndarray, known: list[Mask], box_B4: Array) -> list[Array]:
        """Of each picture (R,F): :meth:`find`, then :meth:`figures`."""
        return self.figures(batch, self.find(batch, hidden_BHW3, known, box_B4))

    def find(self, batch: PoseBatch, hidden_BHW3: np.ndarray, known: list[Mask], box_B4: Array) -> list[list[Region]]:
        """The regions of each picture.

        Args:
            hidden_BHW3: the pictures with the labelled body painted over.
            known: (H,W) each, where people are known to be. box_B4: xyxy px about the labels.
        """
        found = []
        for row, mask in enumerate(known):
            picture = np.ascontiguousarray(batch.image[row].permute(1, 2, 0).cpu().numpy())
            regions = find_regions(self._mask, picture, hidden_BHW3[row], mask, box_B4[row])
            found.append([region for region in regions if region.axis[1] >= self.smallest * max(mask.shape)])
        return found

    def figures(self, batch: PoseBatch, found: list[list[Region]]) -> list[Array]:
        """Of each picture (R,F) of :data:`FIGURES`, a row for each region."""
        places = [np.concatenate([np.zeros((0, 17, 2)), *(region.places() for region in regions)]) for regions in found]
        out = []
        for regions, looks in zip(found, self._watcher.at(batch, places), strict=True):
            parts = np.split(np.arange(len(looks)), max(len(regions), 1))
            rows = [region.figures(looks[part]) for region, part in zip(regions, parts, strict=False)]
            out.append(np.stack(rows) if rows else np.zeros((0, len(FIGURES))))
        return out


def probability(figures_F: Array) -> float:
    """That a region with these figures is a person."""
    return float(1 / (1 + np.exp(-(BIAS + np.asarray(WEIGHTS) @ figures_F))))


def find_regions(mask: PersonMask, picture: Picture, hidden: Picture, body_HW: Mask, box: Array) -> list[Region]:
    """The largest regions off the body.

    Args:
        picture: (H,W,3). hidden: the same with the labelled body painted over.
        body_HW: where the labelled body and others that are known may be. box: (4,) xyxy px about the label.
    """
    views = np.stack([
        mask(picture), _mirrored(mask, picture), _close(mask, picture, box), mask(hidden), _mirrored(mask, hidden)
    ])  # fmt: skip
    mean, taken = views.mean(0), _grown(body_HW, _SEAM)
    speck = _square(_SPECK * len(mean))
    seen = cv2.morphologyEx(((mean > _SEEN) & ~taken).astype(np.uint8), cv2.MORPH_OPEN, speck)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(seen)
    area = stats[:, cv2.CC_STAT_AREA]
    good = [n for n in range(1, count) if _SMALLEST * mean.size < area[n] < _LARGEST * mean.size]
    found = []
    for number in sorted(good, key=lambda n: -int(area[n]))[:_MOST]:
        here = labels == number
        ring = _grown(here, _RING) & ~here & ~body_HW
        found.append(Region(here, views[:, here].mean(1), float(mean[ring].mean()) if ring.any() else 0.0))
    return found


def _mirrored(mask: PersonMask, picture: Picture) -> npt.NDArray[np.float32]:
    return mask(np.ascontiguousarray(picture[:, ::-1]))[:, ::-1]


def _close(mask: PersonMask, picture: Picture, box: Array) -> npt.NDArray[np.float32]:
    """Seen in a square about the label, zero beyond."""
    size = picture.shape[1]
    middle, side = (box[:2] + box[2:]) / 2, _CLOSE * float((box[2:] - box[:2]).max())
    affine = crop_affine((float(middle[0]), float(middle[1])), side, size)
    near = mask(warp_image(picture, affine, size))
    back = cv2.invertAffineTransform(affine)
    return np.asarray(cv2.warpAffine(near, back, picture.shape[1::-1]), np.float32)


def _square(width: float) -> npt.NDArray[np.uint8]:
    side = max(1, round(width))
    return np.ones((side, side), np.uint8)


def _grown(mask: Mask, share: float) -> Mask:
    """By half of ``share`` of the picture's side, all around."""
    return np.asarray(cv2.dilate(mask.astype(np.uint8), _square(share * len(mask))) > 0)
