"""Captions of poses and motions, and encoders of such text (PoseSyn §3.2: what the motion synthesis is asked for)."""

from synth.captions.base import CAPTIONERS, Captioner, CaptionRequest, load_captioner
from synth.captions.describer import Describer, describe_poses
from synth.captions.motion_describer import describe_motion
from synth.captions.text_encoders import TEXT_ENCODERS, TextEncoder, load_text_encoder
from synth.captions.vlm import VisionLanguageCaptioner

__all__ = [
    "CAPTIONERS",
    "TEXT_ENCODERS",
    "CaptionRequest",
    "Captioner",
    "Describer",
    "TextEncoder",
    "VisionLanguageCaptioner",
    "describe_motion",
    "describe_poses",
    "load_captioner",
    "load_text_encoder",
]
