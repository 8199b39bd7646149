"""What the checks catch, and what they cost: ``python -m benchmarks.checks`` prints a table in Markdown.

Rendered pictures with exact labels, into which faults are planted. Each row says which share of the samples the chain
of checks removes, and which check did it; the first row should stay.

* ``mirrored``: the picture is mirrored, the label is not. A symmetric pose stays what it was: those whose joints
  come to lie elsewhere by less than 5 % of the box on average are no fault; they are counted apart
* ``sides swapped``: left and right of the label are exchanged, as in a picture of the back for a label of the front
* ``nobody``: the background alone; ``two people``: another one beside, behind or before the first, within the picture.
  Once both stand, once the other does whatever the motion bank has
* ``empty``: one colour, a gradient, a sensor's noise on black
* ``shifted``: all joints of the label by 8 % of the longer side of their box, in a random direction

Scenes are ``standing`` (one whole person on their feet, nothing before them), ``plain`` (whatever the motion bank has:
people who crawl, roll and turn cartwheels too) or ``default`` (the engine's and the sampler's defaults: people upside
down, cut off, behind objects, beside others, with swapped arms; as they have second people of their own, none is
planted). The seeds (from ``--first``) are others than those on which the checks' bounds were chosen (from 0).

``--figures FILE`` keeps every figure of every sample (.npz), ``--pictures FOLDER`` draws removed and kept samples.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from human.batch import PoseBatch
from human.body import load_body
from human.motion import load_motion_bank
from human.rng import generator
from human.skeleton import COCO17, LIMB_JOINTS, POSE32
from synth.bystanders import BystanderConfig, draw_bystander
from synth.checks import make_checks, run_checks
from synth.checks.base import CheckReport
from synth.checks.seen import Watcher, label_boxes
from synth.engines.build import make_engine
from synth.scene import SceneConfig, SceneSpec, sample_scene

CHAIN: tuple[str, ...] = ("not_blank", "symmetric_ap", "alignment", "person_count")
SHIFT = 0.08
_PLAIN = SceneConfig(
    tumble_probability=0.0, truncation_probability=0.0, swap_arms_probability=0.0, pose_noise_probability=0.0,
    fill=(0.65, 0.85),
)  # fmt: skip
ALONE: dict[str, Any] = {"occluder": {"probability": 0.0}, "bystander": {"probability": 0.0}}
_COMPANY: dict[str, Any] = {
    "occluder": {"probability": 0.0},
    "bystander": {"probability": 1.0, "aside": [0.5, 0.9], "depth": [0.0, 0.8], "front": 0.5},
}
_LIMBS = [POSE32.index(joint) for joint in LIMB_JOINTS]
_BATCH = 32
_STANDS = 1.1  # metres in the camera's frame from the head down to either ankle
_SPARE = 4  # seeds tried for each scene that is asked for


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    batch: PoseBatch
    report: CheckReport

    @property
    def removed(self) -> float:
        return float((~self.report.passed).mean()) if len(self.batch) else float("nan")


def scenes(kind: str, size: int, seeds: Iterable[int], **changes: Any) -> SceneSpec:
    """One scene per seed, with other settings; of ``standing`` only those in which somebody stands."""
    body = load_body("free")
    config = replace(SceneConfig() if kind == "default" else _PLAIN, **changes)
    scene = sample_scene(seeds, load_motion_bank("free"), body, size, config)
    if kind != "standing":
        return scene
    with torch.no_grad():
        joints = body.joints(scene.betas, scene.body_pose, scene.global_orient, scene.transl)
    return scene[torch.nonzero(_on_feet(joints))[:, 0]]


def render(scene: SceneSpec, size: int, options: dict[str, Any], backgrounds: str) -> PoseBatch:
    """Pictures with labels."""
    engine = make_engine("rendered", size, backgrounds, options)
    return PoseBatch.cat([engine.render(scene[i : i + _BATCH]) for i in range(0, len(scene), _BATCH)])


def mirrored(batch: PoseBatch) -> tuple[PoseBatch, np.ndarray]:
    """Mirrored pictures, and how far that moves the joints of the limbs on average, (B,) per longer side of the box."""
    truth = batch.joints2d[:, list(POSE32.flip_permutation)].clone()
    truth[..., 0] = batch.size - 1 - truth[..., 0]
    away = (truth - batch.joints2d)[:, _LIMBS].norm(dim=-1).mean(1).numpy()
    return batch.replace(image=batch.image.flip(-1)), away / label_boxes(batch)[1]


def swapped(batch: PoseBatch) -> PoseBatch:
    """Left and right of the 2D label exchanged."""
    order = list(POSE32.flip_permutation)
    return batch.replace(joints2d=batch.joints2d[:, order], joints2d_conf=batch.joints2d_conf[:, order])


def shifted(batch: PoseBatch, share: float = SHIFT) -> PoseBatch:
    """2D labels displaced by ``share`` of the longer side of their box."""
    side = label_boxes(batch)[1]
    angle = np.array([generator("shift", int(s)).uniform(0, 2 * np.pi) for s in batch.key[:, 3]])
    away = torch.from_numpy(share * side[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)).float()
    return batch.replace(joints2d=batch.joints2d + away[:, None])


def emptied(batch: PoseBatch) -> PoseBatch:
    """Pictures of nothing: one colour, a gradient, noise on black."""
    image = torch.zeros_like(batch.image)
    ramp = torch.linspace(0, 90, batch.size)
    for row in range(len(batch)):
        rng = generator("empty", int(batch.key[row, 3]))
        if row % 3 == 0:
            image[row] = torch.from_numpy(rng.integers(0, 256, (3, 1, 1), dtype=np.uint8))
        elif row % 3 == 1:
            image[row] = ramp.to(torch.uint8)
        else:
            noise = rng.integers(0, 8, tuple(image.shape[1:]), dtype=np.uint8)
            image[row] = torch.from_numpy(noise)
    return batch.replace(image=image)


def nobody(scene: SceneSpec, size: int, options: dict[str, Any], backgrounds: str, labels: PoseBatch) -> PoseBatch:
    """The same places without the person, who stands far off to the side."""
    away = scene.transl + scene.transl.new_tensor([1000.0, 0.0, 0.0])
    return labels.replace(image=render(SceneSpec(**{**vars(scene), "transl": away}), size, options, backgrounds).image)


def others_stand(scene: SceneSpec) -> np.ndarray:
    """(B,) bool: whether the second person, whom :func:`company` draws, is on their feet too."""
    body, bank, config = load_body("free"), load_motion_bank(), BystanderConfig(**_COMPANY["bystander"])
    ups = np.tile([0.0, -1.0, 0.0], (len(scene), 1)) if scene.up is None else scene.up.double().numpy()
    drawn = [
        draw_bystander(generator("bystander", int(seed)), config, bank, up, at)
        for seed, up, at in zip(scene.seed, ups, scene.transl.double().numpy(), strict=True)
    ]
    names = ("betas", "body_pose", "global_orient", "transl")
    with torch.no_grad():
        joints = body.joints(*(torch.from_numpy(np.stack([getattr(other, name) for other in drawn])) for name in names))
    return _on_feet(joints).numpy()


def _on_feet(joints_B32x3: torch.Tensor) -> torch.Tensor:
    head, feet = (
        joints_B32x3[:, POSE32.index("head"), 1],
        joints_B32x3[:, POSE32.indices("left_ankle", "right_ankle"), 1],
    )
    return feet.amin(1) - head >= _STANDS  # y is down


def company(kind: str, seeds: range, size: int, backgrounds: str) -> tuple[PoseBatch, torch.Tensor, np.ndarray]:
    """With a second person who is wholly in the picture: those scenes of the seeds in which there is room; which pixels
    the second person changes, (B,H,W); and whether they stand, (B,)."""
    scene = scenes(kind, size, seeds, fill=(0.5, 0.65))
    alone, both = (render(scene, size, options, backgrounds) for options in (ALONE, _COMPANY))
    changed = (both.image.int() - alone.image.int()).abs().amax(1) > 24
    edge = torch.ones_like(changed[0])
    edge[3:-3, 3:-3] = False
    whole = ((changed & edge).flatten(1).sum(1) <= 3) & (changed.flatten(1).float().mean(1) >= 0.03)
    return both[torch.nonzero(whole)[:, 0]], changed[whole], others_stand(scene)[whole.numpy()]


def study(
    kind: str, count: int, first: int, size: int, checks: Iterable[Any] = CHAIN, backgrounds: str = "free"
) -> list[Row]:
    """The table's rows; the first is of good samples."""
    options = {} if kind == "default" else ALONE
    seeds = range(first, first + _SPARE * count)
    scene = scenes(kind, size, seeds)[:count]
    good = render(scene, size, options, backgrounds)
    flipped, away = mirrored(good)
    matters = torch.from_numpy(np.flatnonzero(away >= 0.05))
    same = torch.from_numpy(np.flatnonzero(away < 0.05))
    planted: dict[str, Callable[[], PoseBatch]] = {
        "good": lambda: good,
        "mirrored": lambda: flipped[matters],
        "mirrored, symmetric pose (no fault)": lambda: flipped[same],
        "sides swapped": lambda: swapped(good),
        "nobody": lambda: nobody(scene, size, options, backgrounds, good),
        "empty": lambda: emptied(good),
        f"shifted by {SHIFT:.0%}": lambda: shifted(good),
    }
    if kind != "default":  # whose second people are those of plain scenes
        both, _, stand = company(kind, seeds, size, backgrounds)
        planted["two people, both standing"] = lambda: both[torch.from_numpy(np.flatnonzero(stand))][:count]
        planted["two people, the other in any pose"] = lambda: both[:count]
    chain, rows = make_checks(checks), []
    for name, plant in planted.items():
        batch = plant()
        if len(batch):
            rows.append(Row(name, batch, run_checks(chain, batch)))
            print(f"{name}: {len(batch)}, removed {rows[-1].removed:.1%} {rows[-1].report.removed}", flush=True)
    return rows


def table(rows: list[Row]) -> str:
    """Markdown."""
    names = list(rows[0].report.removed)
    lines = ["| planted | samples | removed | " + " | ".join(f"by `{n}`" for n in names) + " |"]
    lines.append("|---|---|---|" + "---|" * len(names))
    for row in rows:
        by = " | ".join(str(row.report.removed[n]) for n in names)
        lines.append(f"| {row.name} | {len(row.batch)} | {row.removed:.1%} | {by} |")
    return "\n".join(lines)


def draw(row: Row, path: Path, passed: bool, most: int = 20) -> None:
    """Samples with their label (light) and what the detector saw (dark); left is blue, right is red."""
    index = np.flatnonzero(row.report.passed == passed)[:most]
    if not len(index):
        return
    part = row.batch[torch.from_numpy(index)]
    seen, cells = Watcher().compare(part), []
    for number in range(len(part)):
        picture = np.ascontiguousarray(part.image[number].permute(1, 2, 0).numpy()[..., ::-1])
        picture = cv2.resize(picture, (320, 320))
        for points, light in ((seen.label[number], True), (seen.found[number], False)):
            _skeleton(picture, points * 320 / part.size, light)
        cells.append(picture)
    cells += [np.zeros_like(cells[0])] * (-len(cells) % 5)
    grid = np.concatenate([np.concatenate(cells[i : i + 5], 1) for i in range(0, len(cells), 5)])
    cv2.imwrite(str(path), grid)


def _skeleton(picture: np.ndarray, points_J2: np.ndarray, light: bool) -> None:
    for parent, child in COCO17.bones:
        left = COCO17.joints[child].startswith("left")
        colour = ((255, 255, 0) if left else (0, 165, 255)) if light else ((255, 0, 0) if left else (0, 0, 255))
        a, b = (tuple(int(v) for v in np.clip(points_J2[k], -1e4, 1e4)) for k in (parent, child))
        cv2.line(picture, a, b, colour, 2)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", choices=("standing", "plain", "default"), default="standing")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--first", type=int, default=300_000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--backgrounds", default="free")
    parser.add_argument("--figures", type=Path)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = study(args.scenes, args.count, args.first, args.size, backgrounds=args.backgrounds)
    print(f"\n{args.scenes} scenes, {args.size} px, seeds from {args.first}\n\n{table(rows)}")
    if args.figures:
        kept = {f"{row.name}/{k}": v for row in rows for k, v in row.report.figures.items()}
        np.savez(args.figures, **kept, **{f"{row.name}/passed": row.report.passed for row in rows})  # type: ignore[arg-type]
    if args.pictures:
        args.pictures.mkdir(parents=True, exist_ok=True)
        for row in rows:
            for passed in (True, False):
                name = f"{row.name.split(',')[0].replace(' ', '_')}_{'kept' if passed else 'removed'}.png"
                draw(row, args.pictures / name, passed)


if __name__ == "__main__":
    main()
