"""Floor 3: target pose estimators, their losses and trainers."""

from lightning_modules import labeller, sharding  # register the labeller `estimator` and the strategy `fsdp2`
from lightning_modules.base import ESTIMATORS, PoseEstimator
from lightning_modules.cliff import CLIFF
from lightning_modules.crowdnet3d import CrowdNet3D
from lightning_modules.domain_adaptation import DomainConfusion, GradientReversal
from lightning_modules.hmr import HMR
from lightning_modules.hmr2 import HMR2
from lightning_modules.hybrik import HybrIK
from lightning_modules.jointreg import JointRegressor
from lightning_modules.motion_transformer import TextToMotionTrainer
from lightning_modules.motion_vqvae import MotionVQVAETrainer
from lightning_modules.pose_prior import PosePriorTrainer
from lightning_modules.spin import SPIN

__all__ = [
    "CLIFF",
    "ESTIMATORS",
    "HMR",
    "HMR2",
    "SPIN",
    "CrowdNet3D",
    "DomainConfusion",
    "GradientReversal",
    "HybrIK",
    "JointRegressor",
    "MotionVQVAETrainer",
    "PoseEstimator",
    "PosePriorTrainer",
    "TextToMotionTrainer",
    "labeller",
    "sharding",
]
