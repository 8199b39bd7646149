"""MPII's PCKh: whole heads in the literature, but two code bases count them differently at 0.1.

HRNet and mmpose leave pelvis and thorax out of the mean and weigh joints by how often they are labelled. HRNet's
"Mean@0.1" reads entry 11 of the thresholds 0, 0.01, ..., which is 0.11; mmpose reads entry 10. A joint at exactly the
threshold is right for HRNet and wrong for mmpose; here it is wrong under both.
"""

from __future__ import annotations

from human.skeleton import MPII16
from metrics.protocols.base import Joints, Published, protocol

_COUNTED = Joints("labels", tuple(name for name in MPII16.joints if name not in ("pelvis", "thorax")))
_HRNET = "leoxiaobin/deep-high-resolution-net.pytorch:README.md, Results on MPII val"
_MMPOSE = "open-mmlab/mmpose:configs/body_2d_keypoint/topdown_heatmap/mpii"

protocol(
    name="mpii/hrnet",
    dataset="mpii",
    split="val",
    metrics=("pck@0.5", "pck@0.11"),
    truth=_COUNTED,
    prediction=_COUNTED,
    normaliser="head",
    average="label",
    source="leoxiaobin/deep-high-resolution-net.pytorch:lib/dataset/mpii.py",
    published=tuple(
        Published(method, metric, value, _HRNET)
        for method, *values in (
            ("SimpleBaseline-ResNet-50", 88.5, 34.0),
            ("SimpleBaseline-ResNet-101", 89.1, 34.0),
            ("SimpleBaseline-ResNet-152", 89.6, 35.0),
            ("HRNet-W32", 90.3, 37.7),
        )
        for metric, value in zip(("pck@0.5", "pck@0.11"), values, strict=True)
    ),
    note="printed there as Mean and Mean@0.1, which is PCKh@0.11; the papers' figures average over flipped pictures",
)

protocol(
    name="mpii/mmpose",
    dataset="mpii",
    split="val",
    metrics=("pck@0.5", "pck@0.1"),
    truth=_COUNTED,
    prediction=_COUNTED,
    normaliser="head",
    average="label",
    source="open-mmlab/mmpose:mmpose/evaluation/metrics/keypoint_2d_metrics.py, MpiiPCKAccuracy",
    published=tuple(
        Published(method, metric, value, f"{_MMPOSE}/{page}")
        for method, page, *values in (
            ("HRNet-W32", "hrnet_mpii.md", 90.0, 33.4),
            ("HRNet-W48", "hrnet_mpii.md", 90.1, 33.7),
            ("SimpleBaseline-ResNet-50", "resnet_mpii.md", 88.2, 28.6),
            ("SimpleBaseline-ResNet-101", "resnet_mpii.md", 88.8, 29.0),
            ("SimpleBaseline-ResNet-152", "resnet_mpii.md", 88.9, 30.3),
            ("Hourglass-52 (256x256)", "hourglass_mpii.md", 88.9, 31.7),
            ("Hourglass-52 (384x384)", "hourglass_mpii.md", 89.4, 36.7),
        )
        for metric, value in zip(("pck@0.5", "pck@0.1"), values, strict=True)
    ),
)
