"""Floor 4: what happens around the training steps."""

from callbacks.benchmark import Benchmark
from callbacks.diffusion_hpc import DiffusionHPC
from callbacks.ema import EMA
from callbacks.epoch_table import EpochTable
from callbacks.films import Films
from callbacks.gallery import Gallery
from callbacks.prediction_writer import PredictionWriter
from callbacks.refresh import Refresh

__all__ = ["EMA", "Benchmark", "DiffusionHPC", "EpochTable", "Films", "Gallery", "PredictionWriter", "Refresh"]
