"""How near do synthesised poses come to the true one? ``python -m benchmarks.msm_study --out FOLDER``.

Table 2 of PoseSyn (arXiv 2503.13025): for each challenge, the distances (PA-MPJPE, mm) of the synthesised poses to the
true pose: their mean, standard deviation and minimum, each averaged over the challenges. The paper compares the
mis-predicted pose, its module without the initial motion (the caption alone), and the whole module; here stand also the
other registered synthesisers. "labels" marks those that look at the challenge's labelled 2D joints, which the paper's
module does not.

Two sets of challenges:

* ``pose2sim``: the real 3D benchmark (evaluation views), as the shipped estimator sees it; of it the worse half by the
  EEM's 2D error, as a refresh mines them
* ``amass``: motion capture that no shipped network was trained on (``--motions``), with the errors that the estimator
  makes on the real benchmark carried over: how each joint of a person there is turned away from the body fitted to the
  true joints

``--train SET`` is the paper's Table 3: what each synthesiser's samples do to training, on ``lspet`` or ``quickstart``
(:mod:`benchmarks.study`; one ``lightning fit`` per arm and seed).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from benchmarks.study import ROOT, run_all, table
from datamodules.crops import CropSet
from datamodules.mining import JoinedCrops
from datamodules.readers.pose2sim import Pose2SimReader
from human.batch import PoseBatch
from human.body import BodyModel, load_body
from human.fit import fit_joints3d
from human.mocap import read_motion_folder
from human.prediction import Prediction
from human.rng import derive_seed, generator
from human.rotations import matrix_to_rotvec, rotation_about, rotvec_to_matrix
from human.skeleton import LIMB_JOINTS, POSE32
from lightning_modules import HMR
from metrics.functional import pa_mpjpe
from synth.eem import EEM, inference, predict_crops
from synth.synthesis import Challenges
from synth.synthesisers import SYNTHESISERS, make_synthesiser

LIMBS = POSE32.indices(*LIMB_JOINTS)
CHECKPOINT = "packaged:hmr_free_128"
CHUNK = 512  # slots synthesised at a time

# Arm -> (synthesiser, its options, whether it looks at the challenge's 2D labels).
ARMS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "pose_only": ("pose_only", {}, False),
    "msm_text_only": ("msm_text_only", {}, False),
    "msm": ("msm", {}, False),
    "msm_text_only, labels": ("msm_text_only", {"select": "labels"}, True),
    "msm, labels": ("msm", {"select": "labels"}, True),
    "variation": ("variation", {}, True),
    "pose_space": ("pose_space", {}, False),
    "latent_noise": ("latent_noise", {}, False),
}


@dataclass(frozen=True)
class Truth:
    """Challenges of which the truth is known: ``joints`` (K, 32, 3) metres and which of them are, ``known`` (K, 32)."""

    challenges: Challenges
    joints: Tensor
    known: Tensor

    def distance(self, joints_BJ3: Tensor, of_B: Tensor) -> Tensor:
        """(B,) PA-MPJPE over the 12 limb joints that are labelled, mm, to the true pose of challenge ``of_B``."""
        return pa_mpjpe(joints_BJ3[:, LIMBS], self.joints[of_B][:, LIMBS], self.known[of_B][:, LIMBS])


@torch.no_grad()
def real_challenges(body: BodyModel, share: float = 0.5) -> tuple[Truth, Tensor]:
    """The worse ``share`` of the real benchmark by the EEM's error; and the (K, 24, 3, 3) turns by which the estimator
    is wrong on all of it.
    """
    crops = JoinedCrops([CropSet(Pose2SimReader("eval"), 128)])
    estimator = HMR(checkpoint=CHECKPOINT).eval()
    everyone = np.arange(len(crops))
    errors, _, _ = EEM().score(estimator, crops, everyone)
    with inference(estimator):
        parts = list(predict_crops(estimator, crops, everyone, 64))
    batch, prediction = PoseBatch.cat([b for b, _ in parts]), Prediction.cat([p for _, p in parts])
    turns = wrong_turns(body, batch, prediction)
    worst = np.sort(np.argsort(-errors, kind="stable")[: round(share * len(errors))])
    return _truth(
        prediction[worst.tolist()], batch[worst.tolist()], [crops.ids[i] for i in worst], errors[worst]
    ), turns


def wrong_turns(body: BodyModel, batch: PoseBatch, prediction: Prediction) -> Tensor:
    """(B, 24, 3, 3) rotation of each joint from the body fitted to the true joints to the predicted one, in the frame
    of the parent (of the pelvis: the camera's).
    """
    fitted = fit_joints3d(body, batch.joints3d, batch.joints3d_conf, on_bad="mask")
    true = rotvec_to_matrix(torch.cat([fitted.global_orient[:, None], fitted.body_pose], 1))
    seen = rotvec_to_matrix(torch.cat([prediction.global_orient[:, None], prediction.body_pose], 1))
    return (seen @ true.mT)[fitted.valid]


@torch.no_grad()
def simulated_challenges(body: BodyModel, folder: Path, turns: Tensor, count: int) -> Truth:
    """Evenly spaced poses of recorded motion before a level camera, each turned as one of the real people was."""
    motions = read_motion_folder(folder)
    pose = torch.cat([torch.from_numpy(np.array(m.body_pose)) for m in motions]).float()
    root = torch.cat([torch.from_numpy(np.array(m.global_orient)) for m in motions]).float()
    rows = torch.linspace(0, len(pose) - 1, count).round().long()
    rng = generator("benchmarks.msm_study")
    yaw = torch.from_numpy(rng.uniform(-np.pi, np.pi, count)).float()
    level = rotation_about("x", torch.full((count,), torch.pi)) @ rotation_about("y", yaw)
    true = torch.cat([(level @ rotvec_to_matrix(root[rows]))[:, None], rotvec_to_matrix(pose[rows])], 1)
    wrong = turns[torch.from_numpy(rng.integers(len(turns), size=count))] @ true
    betas = torch.from_numpy(rng.standard_normal((count, 10))).float().clamp(-2, 2)
    posed = [matrix_to_rotvec(r) for r in (true, wrong)]
    joints, predicted = (body.joints(betas, r[:, 1:], r[:, 0]) for r in posed)
    prediction = Prediction(
        joints3d=predicted - predicted[:, :1],
        joints2d=predicted[..., :2] * 60 + 64,
        global_orient=posed[1][:, 0],
        body_pose=posed[1][:, 1:],
        betas=betas,
        transl=torch.zeros(count, 3),
        intrinsics=torch.eye(3).repeat(count, 1, 1),
    )
    batch = PoseBatch.blank(count, 128).replace(
        joints2d=joints[..., :2] * 60 + 64,
        joints2d_conf=torch.ones(count, 32),
        joints3d=joints,
        joints3d_conf=torch.ones(count, 32),
    )
    return _truth(prediction, batch, [f"{folder.name}/{int(r)}" for r in rows], np.zeros(count))


def _truth(prediction: Prediction, batch: PoseBatch, ids: list[str], errors: np.ndarray) -> Truth:
    challenges = Challenges(prediction, batch, ids, errors, [""] * len(ids))
    return Truth(challenges, batch.joints3d, (batch.joints3d_conf > 0).float())


@torch.no_grad()
def distances(truth: Truth, arm: str, options: dict[str, Any], samples: int, seed: int, body: BodyModel) -> Tensor:
    """(K, samples) mm: of each challenge's synthesised poses to its true one."""
    name, own, _ = ARMS[arm]
    synthesiser = make_synthesiser(name, {**own, **options})
    slots = np.arange(len(truth.challenges)).repeat(samples)
    seeds = [derive_seed("benchmarks.msm_study", seed, s) for s in range(len(slots))]
    found = []
    for start in range(0, len(slots), CHUNK):
        part = slots[start : start + CHUNK]
        made = synthesiser.synthesise(truth.challenges, part, seeds[start : start + CHUNK], body)
        joints = body.joints(made.betas, made.body_pose, made.global_orient)
        found.append(truth.distance(joints, torch.from_numpy(part)))
    return torch.cat(found).view(len(truth.challenges), samples)


def figures(distances_KN: Tensor) -> dict[str, float]:
    """Mean, standard deviation and minimum over a challenge's poses, then the mean over challenges; and the minimum of
    the first 1, 4, 16, ... of them.
    """
    total = distances_KN.shape[1]
    out = {
        "mean": float(distances_KN.mean()),
        "std": float(distances_KN.std(1, correction=0).mean()),
        "min": float(distances_KN.amin(1).mean()),
    }
    count = 1
    while count < total:
        out[f"min of {count}"] = float(distances_KN[:, :count].amin(1).mean())
        count *= 4
    return out


def mispredicted(truth: Truth) -> float:
    """Mean PA-MPJPE of the predictions themselves, mm."""
    rows = torch.arange(len(truth.challenges))
    return float(truth.distance(truth.challenges.predictions.joints3d, rows).mean())


def table2(results: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Markdown, one table per set of challenges: the mean over the seeds, minima also by seed."""
    for name, found in results.items():
        wrong = found["mispredicted"]
        yield f"\n**{name}**: {found['challenges']} challenges, {found['samples']} poses each\n"
        yield "| arm | labels | mean | std | min | min below mis-predicted | min by seed |"
        yield "|---|---|---|---|---|---|---|"
        yield f"| mis-predicted pose | | {wrong:.1f} | | {wrong:.1f} | | |"
        for arm, by_seed in found["arms"].items():
            mean, std, least = (np.mean([f[k] for f in by_seed.values()]) for k in ("mean", "std", "min"))
            each = ", ".join(f"{f['min']:.1f}" for f in by_seed.values())
            label = "yes" if ARMS[arm][2] else ""
            gain = f"{100 * (1 - least / wrong):.1f} %"
            yield f"| {arm} | {label} | {mean:.1f} | {std:.1f} | {least:.1f} | {gain} | {each} |"
        counts = [k for k in next(iter(next(iter(found["arms"].values())).values())) if k.startswith("min of")]
        yield "\n| arm | " + " | ".join(counts) + f" | min of {found['samples']} |"
        yield "|---|" + "---|" * (len(counts) + 1)
        for arm, by_seed in found["arms"].items():
            cells = [f"{np.mean([f[k] for f in by_seed.values()]):.1f}" for k in [*counts, "min"]]
            yield f"| {arm} | " + " | ".join(cells) + " |"


def study(args: argparse.Namespace) -> None:
    """Table 2; finished (set, arm, seed) combinations in ``--out`` are not computed again."""
    torch.set_num_threads(args.threads)
    body = load_body("free")
    real, turns = real_challenges(body)
    sets = {"pose2sim": real}
    if "amass" in args.sets:
        sets["amass"] = simulated_challenges(body, args.motions, turns, args.challenges)
    path = args.out / "table2.json"
    done: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.sets:
        truth = sets[name]
        found = done.setdefault(name, {"arms": {}})
        found |= {"challenges": len(truth.challenges), "samples": args.samples, "mispredicted": mispredicted(truth)}
        for seed in args.seeds:
            for arm in args.arms:
                by_seed = found["arms"].setdefault(arm, {})
                if ARMS[arm][0] in SYNTHESISERS.names() and str(seed) not in by_seed:
                    msm = {"pair": args.pair, "films": 0} if ARMS[arm][0].startswith("msm") else {}
                    made = distances(truth, arm, msm, 1 if arm == "pose_only" else args.samples, seed, body)
                    by_seed[str(seed)] = figures(made)
                    path.write_text(json.dumps(done, indent=1))
                    print(f"{name} {arm} seed {seed}: {by_seed[str(seed)]}", flush=True)
    print("\n".join(table2({name: done[name] for name in args.sets})))


TRAINED = {"lspet": "lspet.yaml", "quickstart": "quickstart.yaml"}
COLUMNS = {
    "lspet": {("lspet", "pck_torso"): "LSPET PCK@0.2 torso", ("pose2sim", "pa_mpjpe"): "Pose2Sim PA-MPJPE mm"},
    "quickstart": {("pose2sim", "mpjpe"): "Pose2Sim MPJPE mm", ("pose2sim", "pa_mpjpe"): "PA-MPJPE mm"},
}


def training_config(which: str, arm: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """The config of one run of Table 3: real pictures alone ("none"), or with one synthesiser's samples."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "configs" / TRAINED[which]).read_text())
    config["seed_everything"] = config["data"]["seed"] = seed
    trainer, data = config["trainer"], config["data"]
    trainer["max_epochs"], data["steps_per_epoch"] = args.epochs, args.steps
    keep = {"callbacks.EMA", "callbacks.EpochTable"} | ({"callbacks.Refresh"} if arm != "none" else set())
    trainer["callbacks"] = [c for c in trainer["callbacks"] if c["class_path"] in keep]
    for callback in trainer["callbacks"]:
        if callback["class_path"] == "callbacks.EpochTable":
            callback["init_args"] = {"show": False}
        if callback["class_path"] == "callbacks.Refresh":
            name, own, _ = ARMS[arm]
            options = {**own, **({"pair": args.pair} if name.startswith("msm") else {})}
            callback["init_args"] |= {
                "samples": args.training_samples,
                "filter": {"tau": None},
                "synthesiser": name,
                "synthesiser_options": options,
            }
    if arm == "none":
        data["sources"] = [s for s in data["sources"] if not s["class_path"].endswith("PoolSource")]
    for entry in [*data["mine"], *data["validate"], *(s["init_args"] for s in data["sources"])]:
        if entry.get("reader") == "lspet":
            entry["options"]["root"] = str(args.lspet.absolute())
    return config


def main() -> None:
    """Compute what is missing, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--out", type=Path, default=Path("runs/msm_study"))
    parser.add_argument("--pair", default="packaged:msm_small", help="the motion networks")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=[*ARMS, "none"], default=list(ARMS))
    parser.add_argument("--sets", nargs="+", choices=["pose2sim", "amass"], default=["pose2sim", "amass"])
    parser.add_argument("--samples", type=int, default=64, help="poses per challenge")
    parser.add_argument("--challenges", type=int, default=48, help="of recorded motion")
    parser.add_argument("--motions", type=Path, default=shared / "samples" / "amass", help="motion files, held out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--train", choices=list(TRAINED), help="Table 3 on this set instead")
    parser.add_argument("--lspet", type=Path, default=shared / "lspet", help="the LSPET folder")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=60, help="per epoch")
    parser.add_argument("--training-samples", type=int, default=500, help="synthetic samples per refresh")
    args = parser.parse_args()
    if args.train is None:
        study(args)
        return
    results = run_all(
        args.arms,
        args.seeds,
        lambda arm, seed: training_config(args.train, arm, seed, args),
        (args.out / args.train).absolute(),
    )
    print(table(results, COLUMNS[args.train]))


if __name__ == "__main__":
    main()
