"""``lightning fit|validate|test|predict --config FILE``: LightningCLI over our model and data classes.

A config that names the class of its data (``data.class_path``) may train anything; all others train an estimator.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from cli.commands import names_own_data
from human.errors import bad_input
from human.interruption import asked
from human.memory import keep_freed_memory


def main(args: Any = None) -> None:
    """The ``lightning`` command. Bad input ends in one line on stderr and exit status 2."""
    os.environ.setdefault("WANDB_SILENT", "true")
    keep_freed_memory()
    # Here, not above: `--help` of a mistyped command need not wait for torch.
    import torch
    from lightning import LightningDataModule, LightningModule, Trainer
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

    import callbacks
    from callbacks.checkpoints import newest_of_run, protect_checkpoints, require_whole
    from callbacks.full_disk import protect_loggers
    from datamodules.pose import PoseDataModule
    from human.checkpoints import require_plain
    from lightning_modules import PoseEstimator

    quiet()

    class SafeCLI(LightningCLI):
        """What every run gets, whatever its config names: see docs/faults.md."""

        def instantiate_trainer(self, **kwargs: Any) -> Trainer:
            trainer = super().instantiate_trainer(**kwargs)
            protect_checkpoints(trainer)
            protect_loggers(trainer)
            return trainer

        def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
            given = super()._prepare_subcommand_kwargs(subcommand)
            if given.get("ckpt_path") == "last":
                given["ckpt_path"] = newest_of_run(self.trainer)
            return given

        def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
            super().parse_arguments(parser, args)
            given = self.config.get(self.config.get("subcommand") or "", {})
            if (path := given.get("ckpt_path")) and Path(path).is_file():
                require_whole(Path(path))
                require_plain(path)

        def before_instantiate_classes(self) -> None:
            # Lightning's default is to run what a checkpoint from the web says.
            given = self.config.get(self.subcommand, {}) if self.subcommand else {}
            if "weights_only" in given and given["weights_only"] is None:
                given["weights_only"] = True

    class PoseCLI(SafeCLI):
        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.link_arguments("data.image_size", "model.init_args.image_size")
            parser.link_arguments("model.init_args.body", "data.body")
            # Known to every command, so that a run's config.yaml serves them all; they act in `predict` and in `test`.
            parser.add_lightning_class_args(callbacks.PredictionWriter, "predictions")
            parser.add_lightning_class_args(callbacks.Benchmark, "benchmark")

    stopping = callbacks.Interrupt()
    options: dict[str, Any] = {
        "subclass_mode_model": True,
        "seed_everything_default": 0,
        "auto_configure_optimizers": False,
        "save_config_kwargs": {"overwrite": True},
        "trainer_defaults": {"callbacks": [stopping]},
        "args": args,
    }
    torch.set_float32_matmul_precision("high")
    try:
        if names_own_data([str(a) for a in args] if isinstance(args, list | tuple) else sys.argv[1:]):
            SafeCLI(LightningModule, LightningDataModule, subclass_mode_data=True, **options)
        else:
            PoseCLI(PoseEstimator, PoseDataModule, **options)
    except Exception as error:
        # A loader process had the signal too and its end stopped the step; what was asked for is done.
        if (signum := asked()) is not None and stopping.saved is not None:
            raise SystemExit(128 + signum) from error
        sentence = bad_input(error)
        if sentence is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        raise SystemExit(2) from error


def quiet() -> None:
    """Keep what a user must read: our own warnings, and Lightning's, without its hints and internal deprecations."""
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    # Frozen layers are in eval mode on purpose.
    warnings.filterwarnings("ignore", message="Found .* module.s. in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", message="Total length of .* across ranks is zero.*")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message="You're using the WeightAveraging callback, but loading a checkpoint.*")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


if __name__ == "__main__":
    main()
