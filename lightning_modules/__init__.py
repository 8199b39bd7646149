"""Floor 3: target pose estimators, their losses and trainers."""

from lightning_modules.base import ESTIMATORS, PoseEstimator
from lightning_modules.domain_adaptation import DomainConfusion, GradientReversal
from lightning_modules.hmr import HMR
from lightning_modules.jointreg import JointRegressor

__all__ = ["ESTIMATORS", "HMR", "DomainConfusion", "GradientReversal", "JointRegressor", "PoseEstimator"]
