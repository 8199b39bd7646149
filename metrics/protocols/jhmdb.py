"""Sub-JHMDB as mmpose measures it: PCK@0.2 of the person's box, and of the torso; papers average three splits.

The 15 joints are a puppet's; a body estimator has the 12 limb joints only, so there is a figure on those as well.
"""

from __future__ import annotations

from human.skeleton import JHMDB15, LIMB_JOINTS
from metrics.protocols.base import Joints, Published, protocol

_ALL, _LIMBS = Joints("labels", JHMDB15.joints), Joints("labels", LIMB_JOINTS)
_SOURCE = "open-mmlab/mmpose:mmpose/evaluation/metrics/keypoint_2d_metrics.py, JhmdbPCKAccuracy"
_PAGES = "open-mmlab/mmpose:configs/body_2d_keypoint/topdown_heatmap/jhmdb"
#: Mean over joints of Sub1, Sub2, Sub3.
_PUBLISHED = {
    "pck": {
        ("ResNet-50", "resnet_jhmdb.md"): (96.1, 95.0, 96.7),
        ("ResNet-50, 2 deconvolutions", "resnet_jhmdb.md"): (96.1, 95.2, 96.7),
        ("CPM", "cpm_jhmdb.md"): (89.5, 87.4, 92.4),
    },
    "tpck": {
        ("ResNet-50", "resnet_jhmdb.md"): (81.9, 75.5, 82.9),
        ("ResNet-50, 2 deconvolutions", "resnet_jhmdb.md"): (79.2, 73.7, 81.2),
        ("CPM", "cpm_jhmdb.md"): (66.0, 61.1, 70.3),
    },
}

for _number in (1, 2, 3):
    for _kind, _unit in (("pck", "bbox"), ("tpck", "torso_or_predicted")):
        protocol(
            name=f"jhmdb/mmpose-{_kind}-sub{_number}",
            dataset="jhmdb",
            split=f"sub{_number}_test",
            metrics=("pck@0.2",),
            truth=_ALL,
            prediction=_ALL,
            normaliser=_unit,
            average="joint",
            cluster="sequence",
            source=_SOURCE,
            published=tuple(
                Published(method, "pck@0.2", splits[_number - 1], f"{_PAGES}/{page}")
                for (method, page), splits in _PUBLISHED[_kind].items()
            ),
            note="papers give the mean of the three splits",
        )
    protocol(
        name=f"jhmdb/limbs-sub{_number}",
        dataset="jhmdb",
        split=f"sub{_number}_test",
        metrics=("pck@0.2",),
        truth=_LIMBS,
        prediction=_LIMBS,
        normaliser="bbox",
        average="joint",
        cluster="sequence",
        source=_SOURCE,
        note="mmpose's PCK on the 12 joints that body models have: not a paper's figure",
    )
