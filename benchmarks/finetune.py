"""Does every estimator gain from the quickstart's data? ``python -m benchmarks.finetune --out runs/finetune``.

Each registered estimator, at a size that a CPU trains, is trained on rendered people alone, then fine-tuned on the
quickstart's mixture (``configs/quickstart.yaml``: real 3D and real 2D videos and rendered people; the pool's share goes
to the latter, since nothing is mined here), and measured before and after on the quickstart's real 3D benchmark and,
with ``--lspet``, on LSPET 5001-6000, which none is trained on. One JSON line per estimator, a Markdown table at the
end. What is finished is kept in the folder; an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import numpy as np
import torch
import yaml

from benchmarks.study import ROOT
from datamodules.pose import PoseDataModule, ReaderConfig
from datamodules.sources import RealSource, RenderedSource, SampleSource
from human.batch import PoseBatch
from human.record import Record
from lightning_modules import ESTIMATORS, PoseEstimator
from lightning_modules.backbones import load_lite_weights
from lightning_modules.smpl_decoder import DecoderConfig
from lightning_modules.vit import ViTConfig
from synth.scene import SceneConfig

LITE = "tf_efficientnet_lite0"
#: Backbones with ImageNet weights keep their first stages.
EARLY = ["conv_stem", "bn1", "blocks.0", "blocks.1"]
SIZES: dict[str, dict[str, Any]] = {
    "hmr": {"backbone": LITE, "frozen": EARLY, "lr": 1e-3},
    "spin": {"backbone": LITE, "frozen": EARLY, "hidden": 512, "lr": 5e-4},
    "cliff": {"backbone": LITE, "frozen": EARLY, "hidden": 512, "width": 48, "lr": 5e-4},
    "hybrik": {"backbone": LITE, "frozen": EARLY, "deconv": (128, 128, 128), "hidden": 512, "lr": 1e-3},
    "crowdnet3d": {"backbone": "resnet10t", "width": 64, "lr": 5e-4},
    "hmr2": {
        "backbone": ViTConfig(width=192, depth=6, heads=3),
        "decoder": DecoderConfig(width=256, depth=3, heads=4, head_width=64, mlp_width=256),
        "lr": 5e-4,
    },
    "jointreg": {"backbone": "alexnet", "hidden": 512, "lr": 3e-4},
}
#: Fine-tuning's learning rate over training's.
GENTLER = 0.3
FIGURES = {
    ("pose2sim", "mpjpe"): "MPJPE mm",
    ("pose2sim", "pa_mpjpe"): "PA-MPJPE mm",
    ("pose2sim", "pck_torso"): "PCK@0.2 torso",
    ("lspet", "pck_torso"): "LSPET PCK@0.2 torso",
    ("lspet", "pck_box"): "LSPET PCK@0.1 box",
}


@dataclass(frozen=True)
class Plan:
    """What all estimators have in common; results of another plan are not taken over."""

    image_size: int = 64
    batch_size: int = 32
    people: int = 3000
    pretrain_steps: int = 400
    finetune_steps: int = 150
    seed: int = 0
    lspet: str | None = None


class KeptRendered(RenderedSource):
    """``limit`` rendered samples, each drawn once and kept in memory, for all estimators of this process."""

    kept: ClassVar[dict[tuple[int, int], PoseBatch]] = {}

    def fetch(self, key_N4: np.ndarray) -> Record:
        seeds = [(int(k), self.image_size) for k in key_N4[:, 2]]
        if missing := [i for i, s in enumerate(seeds) if s not in self.kept]:
            drawn = super().fetch(key_N4[missing])
            assert isinstance(drawn, PoseBatch)
            self.kept.update({seeds[i]: drawn[n : n + 1] for n, i in enumerate(missing)})
        return PoseBatch.cat([self.kept[s] for s in seeds])


def sources_of(plan: Plan, real: bool) -> list[SampleSource]:
    """Rendered people; with the quickstart's real pictures, at the weights it gives them."""
    scene = SceneConfig(tumble_probability=0.05, truncation_probability=0.05, roll_sigma=12.0)
    rendered = KeptRendered(scene=scene, limit=plan.people)
    if not real:
        return [rendered]
    named = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text())["data"]["sources"]
    real_ones = [s["init_args"] for s in named if s["class_path"].endswith(".RealSource")]
    rendered.weight = 1 - sum(s["weight"] for s in real_ones)
    return [*(RealSource(**s) for s in real_ones), rendered]


def data_of(plan: Plan, steps: int, real: bool) -> PoseDataModule:
    validate = [ReaderConfig("pose2sim", {"split": "eval"})]
    if plan.lspet is not None:
        validate.append(ReaderConfig("lspet", {"root": plan.lspet, "split": "val"}))
    return PoseDataModule(
        sources_of(plan, real),
        validate=validate,
        image_size=plan.image_size,
        batch_size=plan.batch_size,
        steps_per_epoch=steps,
        workers=0,
        seed=plan.seed,
    )


def make(name: str, plan: Plan, **more: Any) -> PoseEstimator:
    """The estimator at its size here, on the free body."""
    torch.manual_seed(plan.seed)
    options = {"image_size": plan.image_size, "warmup_steps": 20, "final_lr_fraction": 0.05, **SIZES[name], **more}
    estimator = ESTIMATORS.get(name)(**options)
    if SIZES[name]["backbone"] == LITE and "checkpoint" not in more:
        backbone = estimator.get_submodule("backbone")
        load_lite_weights(backbone, "efficientnet_lite0")
    return estimator


def trainer_of(folder: Path, steps: int) -> L.Trainer:
    return L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_steps=max(steps, 1),
        limit_val_batches=1.0,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=None,
        val_check_interval=10**9,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def train(estimator: PoseEstimator, data: PoseDataModule, folder: Path, steps: int) -> float:
    """Seconds taken."""
    start = time.perf_counter()
    trainer_of(folder, steps).fit(estimator, datamodule=data)
    return time.perf_counter() - start


def scores(estimator: PoseEstimator, data: PoseDataModule, folder: Path) -> dict[str, dict[str, float]]:
    trainer_of(folder, 1).validate(estimator, datamodule=data, verbose=False)
    return estimator.last_scores


def save(estimator: PoseEstimator, path: Path) -> None:
    """Complete or not at all."""
    part = path.with_suffix(".part")
    estimator.save_weights(part)
    part.replace(path)


def run(name: str, plan: Plan, folder: Path) -> dict[str, Any]:
    """One estimator's line; from the folder, where it is finished with the same plan."""
    done, weights, setting = folder / f"{name}.json", folder / f"{name}_rendered.safetensors", folder / f"{name}.plan"
    wanted = json.dumps({"plan": asdict(plan), "size": repr(SIZES[name])}, sort_keys=True)
    same = setting.is_file() and setting.read_text() == wanted
    if same and done.is_file():
        line: dict[str, Any] = json.loads(done.read_text())
        return line
    folder.mkdir(parents=True, exist_ok=True)
    seconds: float | None = None
    if not (same and weights.is_file()):
        done.unlink(missing_ok=True)  # of another plan
        estimator = make(name, plan)
        seconds = train(estimator, data_of(plan, plan.pretrain_steps, real=False), folder, plan.pretrain_steps)
        save(estimator, weights)
        setting.write_text(wanted)
    estimator = make(name, plan, checkpoint=str(weights), lr=GENTLER * SIZES[name]["lr"])
    data = data_of(plan, plan.finetune_steps, real=True)
    before = scores(estimator, data, folder)
    tuning = train(estimator, data, folder, plan.finetune_steps)
    line = {
        "estimator": name,
        "million_parameters": round(sum(v.numel() for v in estimator.trained_state().values()) / 1e6, 2),
        "before": before,
        "after": scores(estimator, data, folder),
        "pretrain_seconds": seconds and round(seconds, 1),
        "finetune_seconds": round(tuning, 1),
        **asdict(plan),
    }
    done.write_text(json.dumps(line))
    return line


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Markdown: before -> after."""
    columns = [(key, title) for key, title in FIGURES.items() if key[0] in lines[0]["after"]]
    head = ["estimator", "million weights", *(title for _, title in columns)]
    rows = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for line in lines:
        cells = [
            " → ".join(_number(line[when][data][score]) for when in ("before", "after")) for (data, score), _ in columns
        ]
        rows.append(f"| {line['estimator']} | {line['million_parameters']} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _number(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def main() -> None:
    """Run what is missing, print a line each and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/finetune"))
    parser.add_argument("--lspet", help="the LSPET folder")
    parser.add_argument("--only", nargs="+", choices=sorted(SIZES), default=list(SIZES))
    for name in ("image_size", "batch_size", "people", "pretrain_steps", "finetune_steps", "seed"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Plan, name))
    args = vars(parser.parse_args())
    lspet = args.pop("lspet")
    out, names = args.pop("out"), args.pop("only")
    plan = Plan(**args, lspet=lspet and str(Path(lspet).absolute()))
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    lines = []
    for name in names:
        lines.append(run(name, plan, out.absolute()))
        print(json.dumps(lines[-1]), flush=True)
    print(f"\n{table(lines)}")


if __name__ == "__main__":
    main()
