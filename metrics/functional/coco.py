"""COCO's average precision of keypoints, by COCO's own code (pycocotools)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from human.errors import PosesynError
from metrics.functional.oks import COCO_SIGMAS

AP_NAMES: tuple[str, ...] = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L")


def keypoint_ap(
    pred_DJ2: Tensor,
    score_D: Tensor,
    pred_image_D: Tensor,
    target_GJ2: Tensor,
    visible_GJ: Tensor,
    area_G: Tensor,
    image_G: Tensor,
    box_G4: Tensor | None = None,
    crowd_G: Tensor | None = None,
    sigmas: Sequence[float] = COCO_SIGMAS,
    watch: Callable[[Any], None] | None = None,
) -> dict[str, float]:
    """AP and AR of detected persons over OKS 0.50:0.05:0.95, at most 20 detections per picture.

    Args:
        pred_DJ2: keypoints of D detections, pixels of the picture.
        score_D: confidence, larger first.
        pred_image_D: picture number of each detection.
        target_GJ2: keypoints of G annotations.
        visible_GJ: COCO's 0 not labelled, 1 occluded, 2 visible; > 0 counts. An annotation without labels is ignored:
            a detection on it is neither right nor wrong.
        area_G: square pixels of the segment; ``AP_M`` is 32^2..96^2, ``AP_L`` above.
        image_G: picture number of each annotation.
        box_G4: x, y, width, height; only used for annotations without labels. None: the box of the labels.
        crowd_G: annotations of crowds are ignored as well. None: none.
        sigmas: one per joint.
        watch: is given pycocotools' evaluation, where there are detections (``metrics.functional.coco_resampled``).

    Returns:
        ``AP_NAMES`` to values in 0..1; -1 where there is nothing to find, as COCO says.

    A detection with a number that is not finite is left out. pycocotools is part of the extra ``bench``.

    Examples:
        >>> import torch
        >>> people = 100 * torch.rand(2, 17, 2, generator=torch.Generator().manual_seed(0))
        >>> seen, area, image = torch.full((2, 17), 2), torch.full((2,), 50.0**2), torch.tensor([7, 8])
        >>> found = keypoint_ap(people[:1], torch.ones(1), image[:1], people, seen, area, image)
        >>> {name: round(found[name], 4) for name in ("AP", "AR", "AP_L")}
        {'AP': 0.505, 'AR': 0.5, 'AP_L': -1.0}
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as e:
        raise PosesynError("COCO's average precision needs pycocotools: pip install 'posesyn[bench]'") from e
    joints = len(sigmas)
    sizes = [("detections", pred_DJ2, (len(score_D), joints, 2)), ("picture numbers", pred_image_D, (len(score_D),))]
    sizes += [("annotations", target_GJ2, (len(area_G), joints, 2)), ("labels", visible_GJ, (len(area_G), joints))]
    sizes += [("picture numbers", image_G, (len(area_G),))]
    for what, tensor, shape in sizes:
        if tuple(tensor.shape) != shape:
            raise PosesynError(f"average precision: {what} must be {shape}, got {tuple(tensor.shape)}")
    finite_D = pred_DJ2.isfinite().flatten(1).all(-1) & score_D.isfinite()
    pred, score, pred_image = (_numpy(x[finite_D]) for x in (pred_DJ2, score_D, pred_image_D))
    target, visible, area, image = (_numpy(x) for x in (target_GJ2, visible_GJ, area_G, image_G))
    visible = np.where(np.isfinite(target).all(-1), visible, 0)
    target = np.where(visible[..., None] > 0, target, 0.0)
    crowd = np.zeros(len(area)) if crowd_G is None else _numpy(crowd_G)
    box = _label_boxes(target, visible) if box_G4 is None else _numpy(box_G4)
    annotations = [
        {
            "id": i + 1,
            "image_id": int(image[i]),
            "category_id": 1,
            "keypoints": np.concatenate([target[i], visible[i, :, None]], -1).reshape(-1).tolist(),
            "num_keypoints": int((visible[i] > 0).sum()),
            "area": float(area[i]),
            "bbox": box[i].tolist(),
            "iscrowd": int(crowd[i]),
        }
        for i in range(len(area))
    ]
    detections = [
        {
            "image_id": int(pred_image[i]),
            "category_id": 1,
            "keypoints": np.concatenate([pred[i], np.ones((joints, 1))], -1).reshape(-1).tolist(),
            "score": float(score[i]),
        }
        for i in range(len(score))
    ]
    pictures = np.unique(np.concatenate([image, pred_image])).astype(int).tolist()
    if not detections:  # which pycocotools cannot load
        sought = area[(visible > 0).any(-1) & (crowd == 0)]
        ranges = {"_M": (sought >= 32**2) & (sought <= 96**2), "_L": sought >= 96**2}
        return {name: 0.0 if ranges.get(name[2:], sought >= 0).any() else -1.0 for name in AP_NAMES}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": i} for i in pictures],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "person"}],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(detections), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.asarray(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    if watch is not None:
        watch(evaluation)
    return dict(zip(AP_NAMES, (float(v) for v in evaluation.stats), strict=True))


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to(torch.float64).cpu().numpy()


def _label_boxes(target_GJ2: np.ndarray, visible_GJ: np.ndarray) -> np.ndarray:
    labelled = visible_GJ[..., None] > 0
    low = np.where(labelled, target_GJ2, np.inf).min(1)
    size = np.where(labelled, target_GJ2, -np.inf).max(1) - low
    return np.where(labelled.any(1), np.concatenate([low, size], 1), 0.0)
