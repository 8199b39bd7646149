"""The estimator of a run, from its config and a checkpoint: for commands that do not train."""

from lightning_modules.from_config import config_of, load_estimator

__all__ = ["config_of", "load_estimator"]
