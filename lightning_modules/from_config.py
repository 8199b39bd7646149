"""The estimator of a run, from its config and a checkpoint, for whatever does not train."""

from __future__ import annotations

from pathlib import Path

import yaml

from human.errors import PosesynError, bad_input
from lightning_modules.base import PoseEstimator


def load_estimator(config: Path, checkpoint: Path | str | None) -> PoseEstimator:
    """The estimator of a run's config with the weights of ``checkpoint`` (default: those that the config names)."""
    from jsonargparse import ArgumentParser

    import lightning_modules  # noqa: F401 - makes the names known

    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
        model = dict(content["model"])
        arguments = dict(model.get("init_args") or {})
    except FileNotFoundError:
        raise PosesynError(f"there is no config {config}") from None
    except (yaml.YAMLError, KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise PosesynError(f"{config} is not a config of a run ({type(error).__name__}): it names no model") from error
    # As `lightning` links them.
    size = (content.get("data") or {}).get("image_size", 128)
    arguments["image_size"] = size
    if arguments.get("compile"):
        arguments["compile"] = False
    if checkpoint is not None:
        arguments["checkpoint"] = str(checkpoint)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(PoseEstimator, "model")
    try:
        parsed = parser.parse_object({"model": {**model, "init_args": arguments}})
        estimator = parser.instantiate(parsed).model
    except Exception as error:  # jsonargparse's errors are of many kinds, and long
        sentence = bad_input(error) or f"the model of {config} is not valid: {str(error).strip()[:500]}"
        raise PosesynError(sentence) from error
    assert isinstance(estimator, PoseEstimator)
    return estimator


def config_of(checkpoint: Path) -> Path:
    """The config of the run that a checkpoint lies in."""
    for folder in checkpoint.absolute().parents[:3]:
        if (folder / "config.yaml").is_file():
            return folder / "config.yaml"
    raise PosesynError(f"no config.yaml near {checkpoint.absolute()}: name the run's with --config")
