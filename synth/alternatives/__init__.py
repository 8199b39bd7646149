"""What the papers compare the motion synthesis module with, behind the same protocol; importing this registers all."""

from synth.alternatives.latent_noise import LatentNoise
from synth.alternatives.pose_only import PoseOnly
from synth.alternatives.pose_space import SampledPoses

__all__ = ["LatentNoise", "PoseOnly", "SampledPoses"]
