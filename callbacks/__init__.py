"""Floor 4: what happens around the training steps."""

from callbacks.benchmark import Benchmark
from callbacks.dashboard import Dashboard
from callbacks.diffusion_hpc import DiffusionHPC
from callbacks.ema import EMA
from callbacks.epoch_table import EpochTable
from callbacks.films import Films
from callbacks.gallery import Gallery
from callbacks.guard import Guard
from callbacks.interrupt import Interrupt
from callbacks.prediction_writer import PredictionWriter
from callbacks.quality import Quality
from callbacks.record import Record
from callbacks.refresh import Refresh
from callbacks.source_weights import SourceWeights
from callbacks.wandb_logger import WandbLogger

__all__ = [
    "EMA",
    "Benchmark",
    "Dashboard",
    "DiffusionHPC",
    "EpochTable",
    "Films",
    "Gallery",
    "Guard",
    "Interrupt",
    "PredictionWriter",
    "Quality",
    "Record",
    "Refresh",
    "SourceWeights",
    "WandbLogger",
]
