"""How good an engine's pictures are: how near to real ones, how well they show their labels, how various their poses.

Everything is measured of a pool's samples, for each generation and engine, against one set of real people:

* ``fid``, ``kid``: whole pictures; ``fid_crop``, ``kid_crop``: the person alone, as Pose++ and Diffusion-HPC crop them
* ``alignment``: median distance of a detector's joints from the label's, % of the longer side of the labelled person's
  box; ``undetected``: share of pictures in which the detector finds nobody
* ``pass_rate``, ``err3d``: of the filter, as the pool has them
* ``apd``: average pairwise distance of root-relative joints, mm; ``apd_body``: of bodies turned to face one way
* ``density``, ``coverage``: of real 2D poses by made ones (:func:`metrics.functional.diversity.density_and_coverage`)
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from human.batch import PoseBatch
from human.crop import crop_affine, square_box, warp_image
from human.errors import PosesynError
from human.labellers import Labeller, make_labeller
from human.rng import generator
from human.rotations import rotvec_to_matrix
from human.skeleton import POSE32, SMPL24, convert
from metrics.distribution import ENOUGH, fid, kid
from metrics.features import DEFAULT_FEATURES, FeatureNetwork, make_features
from metrics.functional.diversity import average_pairwise_distance, density_and_coverage
from synth.eem import MiningData
from synth.pool import Pool

log = logging.getLogger(__name__)

#: Joints whose 2D poses are compared: those that every data set labels.
LIMBS = tuple(f"{s}_{j}" for j in ("ankle", "knee", "hip", "wrist", "elbow", "shoulder") for s in ("left", "right"))
_LIMBS, _HIPS = POSE32.indices(*LIMBS), [LIMBS.index("left_hip"), LIMBS.index("right_hip")]
FIGURES = (
    *("fid", "fid_crop", "kid", "kid_std", "kid_crop", "kid_crop_std", "alignment", "undetected", "pass_rate", "err3d"),
    *("apd", "apd_body", "density", "coverage"),
)


@dataclass
class QualityConfig:
    """What is measured, and how.

    Args:
        features: the network of FID and KID (:func:`metrics.features.make_features`); feature_weights: its weights.
        limit: pictures looked at of each engine and generation, and real ones: chosen evenly; 0: all.
        crop_scale: side of the person's crop over the longer side of the box of the labelled joints.
        crop_size: its side, px.
        kid_subsets, kid_subset_size: KID is the mean over so many random subsets, so large (or as large as there are).
        labeller, labeller_options: the detector that alignment is measured with (``human.labellers``); null: none.
        align: pictures whose alignment is measured, of those looked at: a detector is slow; 0: all.
        min_confidence: joints of which the detector is less sure are not compared.
        nearest: neighbours of coverage.
        few: pictures below which a note says that FID is biased.
        batch_size: pictures per forward pass.
        device: of the feature network.
    """

    features: str = DEFAULT_FEATURES
    feature_weights: str | None = None
    limit: int = 2048
    crop_scale: float = 1.2
    crop_size: int = 128
    kid_subsets: int = 50
    kid_subset_size: int = 1000
    labeller: str | None = "blazepose"
    labeller_options: dict[str, Any] = field(default_factory=lambda: {"levels": 1})
    align: int = 256
    min_confidence: float = 0.5
    nearest: int = 5
    few: int = ENOUGH
    batch_size: int = 64
    device: str = "cpu"

    def __post_init__(self) -> None:
        whole = (self.crop_size, self.kid_subsets, self.nearest, self.batch_size)
        if min(whole) < 1 or self.kid_subset_size < 2 or self.limit < 0 or self.align < 0 or not self.crop_scale > 0:
            raise PosesynError(
                "quality needs crop_size, kid_subsets, nearest and batch_size >= 1, kid_subset_size >= 2, limit and "
                f"align >= 0, and crop_scale > 0, got {whole}, {self.kid_subset_size}, {self.limit}, {self.align} and "
                f"{self.crop_scale}"
            )


@dataclass(frozen=True)
class Side:
    """What is compared of N pictures: features (N,F) of the whole and (M,F) of the people whose box is known; 2D poses
    (P,24); joints (Q,24,3) mm from the root as seen, and (R,24,3) of bodies turned to face one way."""

    whole: Tensor
    crops: Tensor
    poses2d: Tensor
    joints3d: Tensor
    bodies3d: Tensor

    def __len__(self) -> int:
        return len(self.whole)


@dataclass(frozen=True)
class Quality:
    """Figures (:data:`FIGURES`, NaN where one could not be measured) of an engine's samples in a generation, or in
    all (None). ``notes``: what a reader must know of them."""

    engine: str
    generation: int | None
    made: int
    passed: int
    looked_at: int
    figures: dict[str, float]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: None for NaN."""
        figures = {k: (v if math.isfinite(v) else None) for k, v in self.figures.items()}
        return {**{k: v for k, v in vars(self).items() if k != "figures"}, "notes": list(self.notes), **figures}


class Measurer:
    """Measures engines against real people; keeps what is known of these.

    Args:
        real: the real people, as they are mined: crops with 2D labels.
        config: settings.
    """

    def __init__(self, real: MiningData, config: QualityConfig | None = None) -> None:
        self.real_data, self.config = real, config or QualityConfig()
        self._network: FeatureNetwork | None = None
        self._labeller: Labeller | None = None
        self._real: Side | None = None

    @property
    def real(self) -> Side:
        if self._real is None:
            rows, size = spread(len(self.real_data), self.config.limit), self.config.batch_size
            parts = (self.real_data.crops(rows[i : i + size]) for i in range(0, len(rows), size))
            self._real = self.side(parts)
            if len(self._real) < 2:
                raise PosesynError(
                    f"quality: {self.real_data.name} has {len(self._real)} readable pictures, 2 are needed to compare "
                    "with: name another real set"
                )
        return self._real

    def side(self, batches: Iterable[PoseBatch]) -> Side:
        """What is compared of these pictures; those of weight 0 (unreadable) are left out."""
        if self._network is None:
            made = make_features(self.config.features, self.config.feature_weights)
            self._network = made.to(self.config.device)
        width = self._network.num_features
        parts: list[list[Tensor]] = [[torch.zeros(0, *s)] for s in ((width,), (width,), (24,), (24, 3), (24, 3))]
        for batch in batches:
            readable = batch[torch.nonzero(batch.weight > 0)[:, 0]]
            if not len(readable):
                continue
            crops = person_crops(readable, self.config.crop_size, self.config.crop_scale)
            found = (self._features(readable.image), self._features(crops), poses_2d(readable), *poses_3d(readable))
            for part, more in zip(parts, found, strict=True):
                part.append(more)
        return Side(*(torch.cat([p.double() for p in part]) for part in parts))

    def _features(self, image_B3HW: Tensor) -> Tensor:
        assert self._network is not None
        parts = image_B3HW.split(self.config.batch_size) if len(image_B3HW) else []
        found = [self._network(p.to(self.config.device)).cpu() for p in parts]
        return torch.cat([torch.zeros(0, self._network.num_features, dtype=torch.float64), *found])

    def compare(self, made: Side) -> tuple[dict[str, float], list[str]]:
        """The figures of made pictures beside the real ones, and notes."""
        config, real = self.config, self.real
        out = {name: float("nan") for name in FIGURES}
        notes = []
        for suffix, a, b in (("", real.whole, made.whole), ("_crop", real.crops, made.crops)):
            out[f"fid{suffix}"] = fid(a, b)
            out[f"kid{suffix}"], out[f"kid{suffix}_std"] = kid(a, b, config.kid_subsets, config.kid_subset_size)
        out["density"], out["coverage"] = density_and_coverage(real.poses2d, made.poses2d, config.nearest)
        out["apd"] = average_pairwise_distance(made.joints3d)
        out["apd_body"] = average_pairwise_distance(made.bodies3d)
        fewest = min(len(real), len(made))
        if fewest < 2:
            notes.append(f"{len(made)} pictures: two are needed")
        elif fewest < config.few:
            notes.append(
                f"FID of {len(made)} and {len(real)} pictures is biased upwards: compare equal numbers, or KID"
            )
        if lost := int((~made.whole.isfinite().all(1)).sum()):
            notes.append(f"features of {lost} pictures are not finite and left out")
        return out, notes

    def align(self, batches: Iterable[PoseBatch]) -> tuple[dict[str, float], list[str]]:
        """How well made pictures show their labels, as the detector sees it."""
        if self.config.labeller is None:
            return {}, []
        if self._labeller is None:
            try:
                self._labeller = make_labeller(self.config.labeller, self.config.labeller_options)
            except PosesynError as error:  # the other figures need no detector
                return {}, [f"alignment is not measured: {error}"]
        distances: list[float] = []
        for batch in batches:
            for k in range(len(batch)):
                distances.append(alignment(self._labeller, batch, k, self.config.min_confidence))
        seen = np.array(distances)
        seen = seen[~np.isnan(seen)]  # those without labels
        found = seen[np.isfinite(seen)]
        out = {"undetected": float(np.isinf(seen).mean()) if len(seen) else float("nan")}
        out["alignment"] = float(100 * np.median(found)) if len(found) else float("nan")
        return out, [f"alignment of {len(found)} pictures"] if len(found) else ["the detector found nobody"]

    def measure(self, pool: Pool, generation: int | None = None) -> list[Quality]:
        """Each engine in each generation of ``pool`` (or in one), and each engine in all where there are several.

        Raises:
            PosesynError: the pool has no generation, or not this one.
        """
        there = [g.generation for g in pool.generations()]
        if not there or (generation is not None and generation not in there):
            what = "no generation" if generation is None else f"no generation {generation}"
            raise PosesynError(f"quality: {pool.path} has {what}; it has {there or 'none'}")
        wanted = there if generation is None else [generation]
        rows = [r for g in wanted for r in _rows(pool, g)]
        engines = sorted({r.engine for r in rows})
        out = []
        for engine in engines:
            own = [r for r in rows if r.engine == engine]
            groups = [[r] for r in own] + ([own] if len(own) > 1 else [])
            out += [self._group(pool, group) for group in groups]
        return out

    def _group(self, pool: Pool, rows: list[_Rows]) -> Quality:
        where = [(r.generation, int(i)) for r in rows for i in r.passed]
        chosen = [where[i] for i in spread(len(where), self.config.limit)]
        made, size = sum(r.made for r in rows), self.config.batch_size
        figures, notes = self.compare(self.side(read_samples(pool, chosen, size)))
        aligned = [chosen[i] for i in spread(len(chosen), self.config.align)]
        if aligned:
            said, more = self.align(read_samples(pool, aligned, size))
            figures, notes = {**figures, **said}, [*notes, *more]
        else:
            notes = ["no sample passed the filter" if made else "no sample"]
        errors = np.concatenate([r.err3d for r in rows])
        figures["pass_rate"] = len(where) / made if made else float("nan")
        figures["err3d"] = float(np.nanmean(errors)) if np.isfinite(errors).any() else float("nan")
        generation = rows[0].generation if len(rows) == 1 else None
        return Quality(rows[0].engine, generation, made, len(where), len(chosen), figures, tuple(notes))


@dataclass(frozen=True)
class _Rows:
    """An engine's samples of a generation: how many, indices of those that passed, errors (mm, NaN: none)."""

    engine: str
    generation: int
    made: int
    passed: np.ndarray
    err3d: np.ndarray


def _rows(pool: Pool, generation: int) -> list[_Rows]:
    table = pool.provenance(generation)
    engines = np.array(table.column("engine").to_pylist(), dtype=object)
    passed = np.array(table.column("passed").to_pylist(), dtype=bool)
    index = np.array(table.column("index").to_pylist(), dtype=np.int64)
    err3d = np.array([np.nan if e is None else e for e in table.column("err3d").to_pylist()], dtype=float)
    return [
        _Rows(str(e), generation, int((engines == e).sum()), index[(engines == e) & passed], err3d[engines == e])
        for e in sorted(set(engines.tolist()))
    ]


def read_samples(pool: Pool, where: list[tuple[int, int]], batch_size: int) -> Iterator[PoseBatch]:
    """Samples (generation, index) in batches; each batch is of one generation."""
    for generation in dict.fromkeys(g for g, _ in where):
        indices = [i for g, i in where if g == generation]
        for start in range(0, len(indices), batch_size):
            yield pool.read(generation, indices[start : start + batch_size])


def spread(count: int, limit: int) -> np.ndarray:
    """``limit`` (0: all) of ``count`` indices, drawn without order in mind but always the same."""
    if not limit or count <= limit:
        return np.arange(count)
    return np.sort(generator("quality", count).permutation(count)[:limit])


def person_crops(batch: PoseBatch, size: int, scale: float) -> Tensor:
    """(M,3,size,size) uint8: squares about the labelled joints, of the people who have at least two."""
    out = []
    for image, joints, conf in zip(batch.image, batch.joints2d, batch.joints2d_conf, strict=True):
        points = joints[conf > 0].numpy()
        low, high = (points.min(0), points.max(0)) if len(points) > 1 else (np.zeros(2), np.zeros(2))
        if not np.isfinite(points).all() or (high - low).max() < 2:
            continue
        cx, cy, side = square_box(np.concatenate([low, high + 1e-3]), scale)
        pixels = warp_image(image.permute(1, 2, 0).contiguous().numpy(), crop_affine((cx, cy), side, size), size)
        out.append(torch.from_numpy(pixels).permute(2, 0, 1))
    return torch.stack(out) if out else torch.zeros(0, 3, size, size, dtype=torch.uint8)


def poses_2d(batch: PoseBatch) -> Tensor:
    """(P,24) of the people with all of :data:`LIMBS`: from the middle of the hips, over the root mean square length."""
    whole = (batch.joints2d_conf[:, _LIMBS] > 0).all(1)
    joints = batch.joints2d[whole][:, _LIMBS].double()
    joints = joints - joints[:, _HIPS].mean(1, keepdim=True)
    length = joints.square().sum(-1).mean(-1).sqrt()[:, None, None]
    return (joints / length.clamp_min(1e-6)).flatten(1)


def poses_3d(batch: PoseBatch) -> tuple[Tensor, Tensor]:
    """(Q,24,3), (R,24,3) mm of the people with all of SMPL's joints: as seen; and turned back by the body's own
    orientation, of those who have one."""
    n = len(SMPL24)
    whole = (batch.joints3d_conf[:, :n] > 0).all(1)
    joints = batch.joints3d[:, :n].double() * 1000
    joints = joints - joints[:, :1]
    turned = torch.einsum("bij,bki->bkj", rotvec_to_matrix(batch.global_orient).double(), joints)
    return joints[whole], turned[whole & batch.has_pose]


def alignment(labeller: Labeller, batch: PoseBatch, k: int, min_confidence: float) -> float:
    """Mean distance between the joints of sample ``k`` and those of the detected person who is nearest, over the longer
    side of the box of the labelled joints; inf where nobody is detected, NaN where nothing is labelled."""
    label = batch.joints2d[k].double().numpy()
    labelled = batch.joints2d_conf[k].numpy() > 0
    if labelled.sum() < 2:
        return float("nan")
    side = float(np.ptp(label[labelled], axis=0).max())
    said = labeller(batch.image[k].permute(1, 2, 0).contiguous().numpy(), "")
    best = float("inf")
    for person in said.joints:
        points, conf = convert(person[None, :, :2], person[None, :, 2], labeller.skeleton, POSE32.name)
        both = np.flatnonzero((conf[0] >= max(min_confidence, 1e-9)) & labelled & np.isin(np.arange(32), _LIMBS))
        if len(both) and side > 0:
            best = min(best, float(np.linalg.norm(points[0][both] - label[both], axis=1).mean()) / side)
    return best
