"""COCO and OCHuman: average precision by COCO's evaluator, and 4D-Humans' share of correct joints."""

from __future__ import annotations

from human.skeleton import COCO17
from metrics.protocols.base import Joints, Published, protocol

_ALL = Joints("labels", COCO17.joints)
_FIGURES = ("ap", "ap_50", "ap_75", "ap_m", "ap_l", "ar")
_HRNET = "leoxiaobin/deep-high-resolution-net.pytorch:README.md, COCO val2017 with a detector of 56.4 AP"

protocol(
    name="coco/ap",
    dataset="coco",
    split="val",
    metrics=_FIGURES,
    truth=_ALL,
    prediction=_ALL,
    source="cocodataset/cocoapi:PythonAPI/pycocotools/cocoeval.py",
    published=tuple(
        Published(method, metric, value, _HRNET)
        for method, *values in (
            ("SimpleBaseline-ResNet-50 256x192", 70.4, 88.6, 78.3, 67.1, 77.2, 76.3),
            ("HRNet-W32 256x192", 74.4, 90.5, 81.9, 70.8, 81.0, 79.8),
            ("HRNet-W48 384x288", 76.3, 90.8, 82.9, 72.3, 83.4, 81.2),
        )
        for metric, value in zip(_FIGURES, values, strict=True)
    ),
    note="published figures: boxes of HRNet's detector (the reader's option detections), flipped pictures averaged; "
    "with the labelled boxes figures are higher",
)

protocol(
    name="coco/hmr2",
    dataset="coco",
    split="val",
    metrics=("pck@0.05", "pck@0.1"),
    truth=_ALL,
    prediction=_ALL,
    keep=(("crowd", "==", 0), ("native2d", "labelled", tuple(range(5, 17)))),
    normaliser="bbox",
    normaliser_scale=1.2,
    average="joint",
    source="shubham-goel/4D-Humans:eval.py, hmr2/utils/pose_utils.py; persons as in nkolot/SPIN:datasets/preprocess/"
    "coco.py and 4D-Humans' posetrack_to_npz.py: all 12 joints of the body labelled",
    note="not average precision: the share of joints within a part of the person's own box, 1.2 times as large",
)

for _split in ("val", "test"):
    protocol(
        name=f"ochuman/ap-{_split}",
        dataset="ochuman",
        split=_split,
        metrics=("ap", "ap_50", "ap_75", "ap_m", "ap_l", "ar"),
        truth=_ALL,
        prediction=_ALL,
        source="liruilong940607/OCHumanApi:README.md (8,110 persons with joints and mask); "
        "cocodataset/cocoapi:PythonAPI/pycocotools/cocoeval.py",
        note="estimators train on COCO: OCHuman is for tests only; area is the box's",
    )
