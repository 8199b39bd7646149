"""Draws docs/images/depth2img.jpg: what the engine ``depth2img`` is given for a few people.

    python scripts/draw_depth2img.py docs/images/depth2img.jpg

A row is a picture; its columns: the initial picture with the recovered mesh's joints, an object before the person
outlined; depth map and mask of people as the denoiser takes them, at latent size; the augmented mesh's joints over
where it is told to be. The people are rendered, so that their meshes are known: what shows is the engine's geometry and
not an estimator's error. No weights are needed.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
import numpy.typing as npt
import torch

from human.body import load_body
from human.camera import project
from human.motion import load_motion_bank
from human.prediction import Prediction
from human.skeleton import POSE32
from synth.diffusion.depth_guidance import Guidance, scaled_intrinsics
from synth.engines.build import make_engine
from synth.engines.depth2img import Depth2ImgEngine
from synth.hpc.initial import InitialPictures
from synth.hpc.planner import MeshPlanner
from synth.jobs import Job, Prompt
from synth.pose_augmentation import FEW_SHOT
from synth.scene import SceneConfig, SceneSpec, sample_scene
from synth.segmenters import Instances

SIZE, LARGE, SHOWN = 224, 512, 256
SEEDS = (11, 24, 37, 42)
Picture = npt.NDArray[np.uint8]
LIMBS = [
    (f"{side}_{a}", f"{side}_{b}")
    for side in ("left", "right")
    for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"), ("shoulder", "hip"))
]


def main(target: str) -> None:
    body = load_body()
    config = SceneConfig(truncation_probability=0.0)
    scene = sample_scene(SEEDS, load_motion_bank(), body, SIZE, config)
    rendered = make_engine("rendered", SIZE, "procedural").render(scene)
    large = make_engine("rendered", LARGE, "procedural").render(_scaled(scene, LARGE / SIZE))
    pictures = [image.permute(1, 2, 0).contiguous().numpy() for image in large.image]
    with torch.no_grad():
        pelvis = body.joints(scene.betas, scene.body_pose, scene.global_orient)[:, 0]
    known = Prediction(
        rendered.joints3d, rendered.joints2d, scene.global_orient, scene.body_pose, scene.betas,
        scene.transl + pelvis, scene.intrinsics,
    )  # fmt: skip
    words = [Prompt(caption="a photo of a person")] * len(SEEDS)
    names = [f"rendered/{s}" for s in SEEDS]
    initial = InitialPictures(names, rendered, pictures, words, np.full(len(SEEDS), np.nan))
    planner = MeshPlanner(SIZE, per_picture=2, hardness=None, augmentation=FEW_SHOT, inside=0.0)
    plan = planner.plan(initial, known, seed=0)
    engine = Depth2ImgEngine(SIZE, resolution=LARGE)
    rows = []
    for first, second in zip(plan.jobs[::2], plan.jobs[1::2], strict=True):
        recovered, augmented = _row(engine, first), _row(engine, second)
        rows.append(np.hstack([*recovered, *augmented[1:]]))
    sheet = np.vstack(rows)
    if not cv2.imwrite(target, sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88] if target.endswith("jpg") else []):
        raise SystemExit(f"cannot write {target}")


def _scaled(scene: SceneSpec, by: float) -> SceneSpec:
    """The same people in larger pictures."""
    numbers = scene.betas, scene.body_pose, scene.global_orient, scene.transl
    return SceneSpec(*numbers, scaled_intrinsics(scene.intrinsics, by), scene.seed)


def _row(engine: Depth2ImgEngine, job: Job) -> list[Picture]:
    """Initial picture, depth map, mask over the picture with the label."""
    picture = engine.initial(job)
    found = engine.found_in(job, picture)
    box = _object(found.person)
    picture = picture.copy()
    picture[box] = (150, 110, 60)
    thing = np.zeros((1, LARGE, LARGE), bool)
    thing[0][box] = True
    people = found.masks & ~thing
    both = Instances(np.concatenate([people, thing]), (*found.labels, "bench"), np.ones(len(people) + 1))
    guidance = engine.guidance_of(job, 0, picture, found=both)
    outlined = np.asarray(cv2.resize(picture, (SHOWN, SHOWN), interpolation=cv2.INTER_AREA), np.uint8)
    assert job.reference is not None
    assert job.reference.body is not None
    return [
        _skeleton(outlined, engine, job.reference.body, LARGE),
        _grey(guidance),
        _skeleton(_masked(outlined, guidance), engine, job.scene, SIZE),
    ]


def _object(person_HW: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """A place before the person's lower half."""
    y, x = np.nonzero(person_HW)
    low, middle = int(np.quantile(y, 0.75)), int(np.median(x))
    return slice(low, low + LARGE // 12), slice(max(0, middle - LARGE // 8), middle + LARGE // 8)


def _grey(guidance: Guidance) -> Picture:
    level = ((guidance.depth[0].numpy() + 1) * 127.5).round().astype(np.uint8)
    return np.repeat(cv2.resize(level, (SHOWN, SHOWN), interpolation=cv2.INTER_NEAREST)[..., None], 3, 2)


def _masked(picture: Picture, guidance: Guidance) -> Picture:
    mask = cv2.resize(guidance.people[0].numpy(), (SHOWN, SHOWN), interpolation=cv2.INTER_NEAREST) > 0.5
    noise = np.random.default_rng(0).integers(0, 256, (SHOWN // 4, SHOWN // 4, 3), dtype=np.uint8)
    return np.where(mask[..., None], cv2.resize(noise, (SHOWN, SHOWN), interpolation=cv2.INTER_NEAREST), picture)


def _skeleton(picture: Picture, engine: Depth2ImgEngine, scene: SceneSpec, side: int) -> Picture:
    """The label's limbs, left blue and right orange."""
    with torch.no_grad():
        joints = engine.body.joints(scene.betas, scene.body_pose, scene.global_orient) + scene.transl[:, None]
    at = project(joints, scaled_intrinsics(scene.intrinsics, SHOWN / side))[0].numpy()
    out = picture.copy()
    for a, b in LIMBS:
        start, end = ([round(16 * float(v)) for v in at[POSE32.index(j)]] for j in (a, b))
        cv2.line(out, start, end, (60, 140, 255) if a.startswith("left") else (255, 150, 40), 2, cv2.LINE_AA, 4)
    return out


if __name__ == "__main__":
    main(sys.argv[1])
