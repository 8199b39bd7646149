"""Keypoint detectors by name; importing this package registers the built-in ones, none of which is loaded by that."""

from human.keypoints import blazepose, rtmpose, vitpose
from human.keypoints.base import KEYPOINT_DETECTORS, KeypointDetector, People, make_keypoint_detector

__all__ = [
    "KEYPOINT_DETECTORS",
    "KeypointDetector",
    "People",
    "blazepose",
    "make_keypoint_detector",
    "rtmpose",
    "vitpose",
]
