"""How much larger than the person the papers' estimators cut their square crops.

An estimator sees people at the size that it was trained with only if its crops are cut as its code cuts them. Each
function gives the side, pixels, of the square about a box of ``width`` x ``height`` pixels: by default a tight box of
labelled joints, as readers have it; with ``detected`` a detector's, which holds the whole person.
"""

from __future__ import annotations

import math

from human.errors import PosesynError

#: Rows over columns of the part of a square crop that CLIFF and HMR2 look at: its middle 192 of 256 columns.
_TALL = 256 / 192


def side_hmr(width: float, height: float, detected: bool = False) -> float:
    """HMR (Kanazawa et al., CVPR 2018): the box's diagonal takes 150 of 224 pixels (akanazawa/hmr:src/util/openpose.py,
    get_bbox).
    """
    return math.hypot(width, height) * 224 / 150


def side_spin(width: float, height: float, detected: bool = False) -> float:
    """SPIN (Kolotouros et al., ICCV 2019): 1.2 of the longer side, kept as a "scale" of that over 200
    (nkolot/SPIN:datasets/preprocess, scaleFactor; demo.py, bbox_from_openpose).
    """
    return 1.2 * max(width, height)


def side_cliff(width: float, height: float, detected: bool = False) -> float:
    """CLIFF (Li et al., ECCV 2022): 1.1 of the smallest box of 192 x 256's shape about the person
    (haofanwang/CLIFF:common/imutils.py, bbox_from_detector).
    """
    return 1.1 * max(height, width * _TALL)


def side_hmr2(width: float, height: float, detected: bool = False) -> float:
    """4D-Humans (Goel et al., ICCV 2023): the smallest box of 192 x 256's shape about 1.2 of the joints' box, or about
    a detector's as it is (hmr2/datasets/preprocess, scaleFactor; hmr2/datasets/utils.py, expand_to_aspect_ratio;
    vitdet_dataset.py).
    """
    return (1.0 if detected else 1.2) * max(height, width * _TALL)


def side_hybrik(width: float, height: float, detected: bool = False) -> float:
    """HybrIK (Li et al., CVPR 2021): 1.25 of the longer side (hybrik/utils/bbox.py, _box_to_center_scale)."""
    return 1.25 * max(width, height)


def side_3dcrowdnet(width: float, height: float, detected: bool = False) -> float:
    """3DCrowdNet (Choi et al., CVPR 2022): 1.25 of the longer side of a person's box, which about joints is 1.2 of
    theirs; boxes count whole pixels, so they are one pixel shorter (common/utils/preprocessing.py, get_bbox and
    process_bbox, without its cut at the picture's border).
    """
    return 1.25 * (max(width, height) * (1.0 if detected else 1.2) - 1)


CROP_CONVENTIONS = {
    "hmr": side_hmr,
    "spin": side_spin,
    "cliff": side_cliff,
    "hmr2": side_hmr2,
    "hybrik": side_hybrik,
    "3dcrowdnet": side_3dcrowdnet,
}


def crop_side(width: float, height: float, scale: float | str, detected: bool = False) -> float:
    """Side of a square crop, pixels: ``scale`` times the box's longer side, or a convention's by name.

    Raises:
        PosesynError: no such convention.
    """
    if isinstance(scale, str):
        return CROP_CONVENTIONS[check_crop_scale(scale)](width, height, detected)
    return scale * max(width, height)


def check_crop_scale(scale: float | str, where: str = "box_scale") -> str:
    """Its name; :class:`PosesynError` where it is neither a positive number nor a known convention."""
    if isinstance(scale, str):
        if scale not in CROP_CONVENTIONS:
            raise PosesynError(f"{where}={scale!r}: give a number, or one of {', '.join(CROP_CONVENTIONS)}")
    elif not (math.isfinite(scale) and scale > 0):
        raise PosesynError(f"{where}={scale}: give a number above 0, or one of {', '.join(CROP_CONVENTIONS)}")
    return str(scale)
