"""What the motion synthesis module costs: ``python -m benchmarks.msm`` prints one JSON line.

* ``challenges_per_second``: challenges to poses, one motion and one fitted frame each, with the shipped pair on the
  CPU: holding, encoding, generating, decoding, checks, fit, orientation; without captions and their embeddings
* ``challenges_per_cpu_second``: by the processor time of all threads, which other processes disturb less
* ``full_challenges_per_second``: the same on the GPU, where there is one, at T2M-GPT's size with random weights
* ``fit_ratio``: bodies from 22 joints per second, ours over joints2smpl's, same batch, same process; and the errors of
  both in millimetres (:mod:`benchmarks.fit` says how they are run)

Challenges are poses of the free motion bank with the pair's own bones. ``--pair`` takes another pair.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.fit import ITERATIONS, compare
from human.batch import PoseBatch
from human.body import BodyModel, load_body
from human.motion import load_motion_bank
from human.prediction import Prediction
from human.rng import derive_seed, generator
from human.rotations import matrix_to_rotvec, rotation_about, rotvec_to_matrix
from synth.captions import CaptionRequest
from synth.msm.generate import MSM
from synth.msm.pair import MotionPair
from synth.msm.transformer import TextToMotion, TransformerConfig
from synth.msm.vqvae import MotionVQVAE, VQVAEConfig
from synth.synthesis import Challenges


def bank_challenges(count: int, body: BodyModel, seed: int = 0) -> Challenges:
    """Poses of free motion, taken for wrong predictions of people before a level camera."""
    rng, bank = generator("benchmarks.msm", seed), load_motion_bank()
    pose, root = (torch.from_numpy(np.array(x)).float() for x in bank.sample(rng.integers(len(bank), size=count)))
    level = rotation_about("x", torch.full((count,), torch.pi)) @ rotvec_to_matrix(root)
    orient, betas = matrix_to_rotvec(level), torch.zeros(count, 10)
    joints = body.joints(betas, pose, orient)
    prediction = Prediction(
        joints3d=joints - joints[:, :1],
        joints2d=joints[..., :2] * 60 + 64,
        global_orient=orient,
        body_pose=pose,
        betas=betas,
        transl=torch.zeros(count, 3),
        intrinsics=torch.eye(3).repeat(count, 1, 1),
    )
    crops = PoseBatch.blank(count, 8).replace(joints2d=prediction.joints2d, joints2d_conf=torch.ones(count, 32))
    return Challenges(prediction, crops, [f"bank/{i}" for i in range(count)], np.zeros(count), [""] * count)


class Said:
    """A captioner that has said everything before."""

    name, replaced = "said", 0

    def __init__(self, captions: list[str]) -> None:
        self.captions = captions

    def caption(self, request: CaptionRequest) -> list[str]:
        return self.captions

    def config_hash(self) -> str:
        return "said"


def throughput(msm: MSM, challenges: Challenges, body: BodyModel, repeats: int) -> dict[str, Any]:
    """Challenges per second, the median of ``repeats``; the first run, which also embeds the captions, warms up."""
    count = len(challenges)
    msm.captioner = Said(msm.captioner.caption(CaptionRequest(challenges.predictions, challenges.crops.image)))
    seconds, cpu, report = [], [], {}
    for number in range(repeats + 1):
        seeds = [derive_seed("benchmarks.msm", number, k) for k in range(count)]
        start, start_cpu = time.perf_counter(), time.process_time()
        report = msm.synthesise(challenges, np.arange(count), seeds, body).report
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    return {
        "challenges_per_second": round(count / statistics.median(seconds[1:]), 1),
        "challenges_per_cpu_second": round(count / statistics.median(cpu[1:]), 1),
        "challenges": count,
        "motion_codes": round(report["motion_codes"], 1),
        "fell_back": report["fell_back"],
        "fit_mm": round(report["fit_mm"], 2),
    }


def full_size() -> MotionPair:
    """T2M-GPT's sizes, random weights, conditioned as the shipped pair is."""
    torch.manual_seed(0)
    vqvae = MotionVQVAE(VQVAEConfig())
    vqvae.quantizer.set_codebook(torch.randn(512, 512))
    small = MotionPair.load("packaged:msm_small")
    transformer = TextToMotion(TransformerConfig(text_dim=small.transformer.config.text_dim))
    return MotionPair(vqvae.eval(), transformer.eval(), small.text_encoder, small.mean_F, small.std_F)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = Path(__file__).resolve().parents[2] / "shared" / "data" / "samples" / "amass"
    parser.add_argument("--pair", default="packaged:msm_small")
    parser.add_argument("--challenges", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--amass", type=Path, default=default, help="folder of AMASS .npz files, for the fit")
    parser.add_argument("--batch", type=int, default=128, help="of the fit")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    body = load_body("free")
    some = bank_challenges(args.challenges, body)
    result: dict[str, Any] = {"benchmark": "msm", "threads": args.threads, "machine": platform.machine()}
    result |= throughput(MSM(pair=args.pair, device="cpu"), some, body, args.repeats)
    if torch.cuda.is_available():
        with tempfile.TemporaryDirectory() as folder:
            full = MSM(pair=str(full_size().save(folder)), device="cuda")
        result |= {f"full_{k}": v for k, v in throughput(full, some, body, args.repeats).items()}
        result["full_device"] = torch.cuda.get_device_name()
    torch.set_num_threads(1)  # the smaller of the two is the slower reference's
    fit = compare(args.amass, args.batch, "cpu", "adam", ITERATIONS, args.repeats)
    kept = ("fit_ratio", "fit_ratio_cpu_time", "batch", "ours_per_second", "ours_error_mm", "joints2smpl_error_mm")
    result |= {k if k.startswith("fit") else f"fit_{k}": fit[k] for k in kept}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
