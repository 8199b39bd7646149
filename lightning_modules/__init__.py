"""Floor 3: target pose estimators, their losses and trainers."""

from lightning_modules.base import ESTIMATORS, PoseEstimator
from lightning_modules.domain_adaptation import DomainConfusion, GradientReversal
from lightning_modules.hmr import HMR

__all__ = ["ESTIMATORS", "HMR", "DomainConfusion", "GradientReversal", "PoseEstimator"]
