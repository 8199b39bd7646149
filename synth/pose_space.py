"""Unseen but valid poses: a sparse, non-parametric Bayesian network over body parts.

Chen et al., "Synthesizing Training Images for Boosting Human 3D Pose Estimation" (3DV 2016), §3.1, after Lehrmann et
al., "A non-parametric Bayesian network prior of human pose" (ICCV 2013). The pose is factorised over parts (pelvis
tilt, torso, head, upper and lower limbs). Each part's configurations are quantised by k-means; which parts depend on
which is learnt on the clusters (hill climbing, BIC, few parents). A part is sampled given its parents: first a
cluster from the smoothed table of counts, then one of the cluster's own members with a kernel on the parents' actual
rotations, then a little of the way to another such member. Parts so meet in combinations that nobody recorded; poses
that break joint limits or push one limb into another are drawn again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.spatial.distance import cdist

from human.errors import PosesynError
from human.motion import MOTION_BANKS, MOTION_SCHEMES, MotionBank, load_motion_bank, mirror_pose, mirror_root
from human.rng import derive_seed, generator, philox_uniform
from synth.pose_parts import PART_JOINTS, PARTS, between, features, part_features, without_heading
from synth.pose_validity import is_valid

_NODES = len(PARTS)
_ATTEMPTS = 64  # draws of one sample before it falls back to a training pose
_BANK = 10_000  # poses of a bank that is asked for by name


@dataclass(frozen=True)
class PoseSpaceConfig:
    """How poses are drawn.

    Args:
        smoothing: counts that a part's own frequencies add to each row of its conditional table. 0 combines clusters
            only as seen; large values make the parts independent.
        bandwidth: width of the kernel on the parents, in spreads of the parents' clusters.
        blend: largest share of the way from the chosen member of a cluster to a similar one.
        limit_slack: degrees beyond the joint limits that are let pass (mocap itself exceeds these boxes a little).
        overlap: metres by which limbs may overlap.
    """

    smoothing: float = 2.0
    bandwidth: float = 0.5
    blend: float = 0.5
    limit_slack: float = 15.0
    overlap: float = 0.05


@dataclass(frozen=True)
class PoseSpace:
    """M training poses, their clusters and the network.

    Attributes:
        poses: (M, 23, 3) float32 rotation vectors; ``tilt`` (M, 3): of the pelvis, without heading, y up.
        labels: (M, P) cluster of each part of :data:`synth.pose_parts.PARTS`.
        edges: (E, 2) parent part, child part.
        config: how poses are drawn.
    """

    poses: np.ndarray
    tilt: np.ndarray
    labels: np.ndarray
    edges: np.ndarray
    config: PoseSpaceConfig = PoseSpaceConfig()

    NUMBERS: ClassVar[int] = 2**52

    @classmethod
    def fit(
        cls,
        body_pose: np.ndarray,
        root: np.ndarray | None = None,
        *,
        clusters: int = 16,
        max_parents: int = 2,
        mirror: bool = True,
        max_poses: int = 20_000,
        seed: int = 0,
        config: PoseSpaceConfig | None = None,
    ) -> PoseSpace:
        """Learn the space. Needs scikit-learn and pgmpy (``pip install posesyn[pose-space]``); sampling does not.

        Args:
            body_pose: (N, 23, 3) rotation vectors, e.g. of a motion bank, of poses lifted from 2D, or both.
            root: (N, 3) pelvis rotations, y up; None: all upright.
            clusters: of each part; a part with fewer distinct configurations has fewer.
            max_parents: parents of a part.
            mirror: also learn each pose with left and right exchanged.
            max_poses: of more, an even selection is used.
        """
        poses = np.asarray(body_pose, np.float32)
        tilt = np.zeros((len(poses), 3), np.float32) if root is None else np.asarray(root, np.float32)
        if poses.ndim != 3 or poses.shape[1:] != (23, 3) or tilt.shape != (len(poses), 3):
            raise PosesynError(
                f"PoseSpace.fit: expected body_pose (N, 23, 3) and root (N, 3), got {poses.shape} and {tilt.shape}"
            )
        if not (np.isfinite(poses).all() and np.isfinite(tilt).all()):
            raise PosesynError("PoseSpace.fit: some poses are not finite; leave them out")
        if len(poses) < 2 * clusters:
            raise PosesynError(f"PoseSpace.fit needs at least {2 * clusters} poses for {clusters} clusters")
        keep = np.unique(np.linspace(0, len(poses) - 1, min(max_poses, len(poses))).round().astype(int))
        poses, tilt = poses[keep], without_heading(tilt[keep]).astype(np.float32)
        if mirror:
            poses, tilt = np.concatenate([poses, mirror_pose(poses)]), np.concatenate([tilt, mirror_root(tilt)])
        labels = _quantise(features(_whole(poses, tilt)), clusters, seed)
        return cls(poses, tilt, labels, _learn_structure(labels, max_parents), config or PoseSpaceConfig())

    def sample(self, count: int, seed: int = 0, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Poses number ``first`` to ``first + count - 1`` of the endless sequence that ``seed`` names.

        Returns:
            body_pose (count, 23, 3) and root (count, 3) float32 rotation vectors, the person heading along +z; a pose
            depends on its number and the seed alone.
        """
        if count < 1:
            raise PosesynError(f"PoseSpace.sample: count must be at least 1, got {count}")
        return self.at(np.arange(first, first + count), seed)

    def at(self, number_N: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Poses by their numbers, below ``NUMBERS``, in the sequence that ``seed`` names; as :meth:`sample`."""
        number = np.asarray(number_N, np.int64)
        if number.size and not 0 <= number.min() <= number.max() < self.NUMBERS:
            raise PosesynError(f"poses of a pose space are numbered from 0 to {self.NUMBERS - 1}")
        out = np.zeros((len(number), 24, 3))
        todo = np.arange(len(number))
        for attempt in range(_ATTEMPTS):
            if len(todo) == 0:
                break
            drawn = self._draw(derive_seed("pose_space", seed), number[todo], attempt)
            out[todo] = drawn
            todo = todo[~is_valid(drawn[:, 1:], self.config.limit_slack, self.config.overlap)]
        if len(todo):  # a space most of whose combinations are impossible: take poses as they were recorded
            row = [int(generator("pose_space_fallback", seed, int(number[k])).integers(len(self.poses))) for k in todo]
            out[todo] = _whole(self.poses[row], self.tilt[row])
        return out[:, 1:].astype(np.float32), out[:, 0].astype(np.float32)

    def content_hash(self) -> str:
        """sha256 (hex) of everything that draws depend on."""
        parts = (self.poses, self.tilt, self.labels.astype(np.int64), self.edges.astype(np.int64))
        whole = hashlib.sha256(repr(self.config).encode())
        for part in parts:
            whole.update(np.ascontiguousarray(part).tobytes())
        return whole.hexdigest()

    def bank(self, count: int = _BANK, seed: int = 0) -> MotionBank:
        """A bank of sampled poses, for everything that takes a motion bank."""
        poses, root = self.sample(count, seed)
        return pose_bank(poses, root, "sampled")

    def acceptance(self, count: int = 1000, seed: int = 0) -> float:
        """Share of first draws that are valid."""
        drawn = self._draw(derive_seed("pose_space", seed), np.arange(count), 0)
        return float(is_valid(drawn[:, 1:], self.config.limit_slack, self.config.overlap).mean())

    def save(self, path: str | Path) -> None:
        """Write an npz (no pickled objects; rotations as float16)."""
        np.savez_compressed(
            path,
            poses=self.poses.astype(np.float16),
            tilt=self.tilt.astype(np.float16),
            labels=self.labels.astype(np.uint8),
            edges=self.edges.astype(np.uint8),
            parts=np.array(list(PARTS)),
            config=np.array([getattr(self.config, k) for k in PoseSpaceConfig.__dataclass_fields__], dtype=np.float64),
        )

    @classmethod
    def load(cls, path: str | Path) -> PoseSpace:
        """Read what :meth:`save` wrote."""
        if not Path(path).is_file():
            raise PosesynError(f"there is no pose space at {path}; write one with scripts/make_pose_banks.py")
        try:
            with np.load(path, allow_pickle=False) as data:
                arrays = {k: data[k] for k in ("poses", "tilt", "labels", "edges", "parts", "config")}
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise PosesynError(f"{path} is not a pose space ({type(error).__name__}: {error})") from error
        m = len(arrays["poses"])
        shapes = (arrays["poses"].shape, arrays["tilt"].shape, arrays["labels"].shape)
        if tuple(arrays["parts"]) != tuple(PARTS) or shapes != ((m, 23, 3), (m, 3), (m, _NODES)) or m == 0:
            raise PosesynError(f"{path} is a pose space over other body parts than this version's: fit it again")
        return cls(
            arrays["poses"].astype(np.float32),
            arrays["tilt"].astype(np.float32),
            arrays["labels"].astype(np.int64),
            arrays["edges"].astype(np.int64).reshape(-1, 2),
            PoseSpaceConfig(*map(float, arrays["config"])),
        )

    def parents(self, part: int) -> list[int]:
        """Parts that ``part`` depends on, in order."""
        return sorted(int(a) for a, b in self.edges if b == part)

    @cached_property
    def order(self) -> list[int]:
        """Parts, parents first."""
        done: list[int] = []
        while len(done) < _NODES:
            ready = [p for p in range(_NODES) if p not in done and all(q in done for q in self.parents(p))]
            if not ready:
                raise PosesynError("the edges of this pose space run in a circle")
            done += ready
        return done

    @cached_property
    def _features(self) -> list[np.ndarray]:
        both = features(_whole(self.poses, self.tilt))
        return [part_features(both, p) for p in range(_NODES)]

    @cached_property
    def _spread(self) -> list[float]:
        """For each part, the root mean square distance (radians) of its members from their cluster's centre."""
        out = []
        for part in range(_NODES):
            values, label = self._features[part], self.labels[:, part]
            centre = np.stack([values[label == c].mean(0) if (label == c).any() else values[0] for c in _span(label)])
            out.append(max(float(np.sqrt(((values - centre[label]) ** 2).sum(1).mean())), 1e-3))
        return out

    @cached_property
    def _tables(self) -> list[np.ndarray]:
        """For each part, cumulated P(cluster | parents' clusters), rows by the parents' clusters in mixed radix."""
        out = []
        for part in range(_NODES):
            k = len(_span(self.labels[:, part]))
            rows, states = self._row(part, self.labels)
            counts = np.zeros((states, k))
            np.add.at(counts, (rows, self.labels[:, part]), 1.0)
            own = counts.sum(0) / counts.sum()
            counts = counts + self.config.smoothing * own
            empty = counts.sum(1) == 0
            counts[empty] = own
            out.append(np.cumsum(counts / counts.sum(1, keepdims=True), axis=1))
        return out

    def _row(self, part: int, labels: np.ndarray) -> tuple[np.ndarray, int]:
        row, states = np.zeros(len(labels), np.int64), 1
        for parent in self.parents(part):
            k = len(_span(self.labels[:, parent]))
            row, states = row * k + labels[:, parent], states * k
        return row, states

    def _draw(self, key: int, number_N: np.ndarray, attempt: int) -> np.ndarray:
        """(N, 24, 3): one ancestral sample for each number."""
        n = len(number_N)
        pose = np.zeros((n, 24, 3))
        labels = np.zeros((n, _NODES), np.int64)
        known: dict[int, np.ndarray] = {}  # features of the parts that have been drawn
        training = _whole(self.poses, self.tilt)
        for part in self.order:
            counter = ((number_N * _ATTEMPTS + attempt) * _NODES + part) * 2
            u = np.concatenate([philox_uniform(key, counter), philox_uniform(key, counter + 1)], axis=1)
            table = self._tables[part][self._row(part, labels)[0]]
            labels[:, part] = np.minimum((u[:, :1] >= table).sum(1), table.shape[1] - 1)
            joints = list(PART_JOINTS[part])
            parents = self.parents(part)
            for cluster in np.unique(labels[:, part]):
                mine = np.flatnonzero(labels[:, part] == cluster)
                members = np.flatnonzero(self.labels[:, part] == cluster)
                weight = np.ones((len(mine), len(members)))
                if parents:
                    theirs = np.concatenate([known[p][mine] for p in parents], axis=1)
                    seen = np.concatenate([self._features[p][members] for p in parents], axis=1)
                    width = self.config.bandwidth * np.sqrt(sum(self._spread[p] ** 2 for p in parents))
                    weight = _kernel(cdist(theirs, seen, "sqeuclidean"), width)
                first = _choose(weight, u[mine, 1])
                own = self._features[part][members]
                near = weight * _kernel(
                    cdist(own[first], own, "sqeuclidean"), self.config.bandwidth * self._spread[part]
                )
                second = _choose(near, u[mine, 2])
                pose[mine[:, None], joints] = between(
                    training[members[first]][:, joints],
                    training[members[second]][:, joints],
                    self.config.blend * u[mine, 3],
                )
            known[part] = part_features(features(pose), part)
        return pose


def pose_bank(body_pose: np.ndarray, root: np.ndarray, name: str) -> MotionBank:
    """Single poses as a motion bank."""
    n = len(body_pose)
    return MotionBank(
        poses=np.asarray(body_pose, np.float32),
        root=np.asarray(root, np.float32),
        position=np.zeros((n, 3), np.float32),
        clip=np.zeros(n, np.int64),
        clip_names=(name,),
        fps=0.0,
    )


@cache
def free_pose_space() -> PoseSpace:
    """The packaged space, learnt from the free motion bank (scripts/make_pose_banks.py --package)."""
    with (files("human") / "data" / "free_pose_space.npz").open("rb") as stream, np.load(stream) as data:
        labels, edges = data["labels"].astype(np.int64), data["edges"].astype(np.int64)
    bank = load_motion_bank("free")
    tilt = without_heading(bank.root).astype(np.float32)
    poses, tilt = np.concatenate([bank.poses, mirror_pose(bank.poses)]), np.concatenate([tilt, mirror_root(tilt)])
    return PoseSpace(poses, tilt, labels, edges)


@MOTION_BANKS.register("free_sampled")
@cache
def _free_sampled() -> MotionBank:
    return free_pose_space().bank(_BANK)


@MOTION_SCHEMES.register("pose_space")
def _sampled_from(path: str) -> MotionBank:
    return PoseSpace.load(path).bank(_BANK)


def _whole(poses_N23x3: np.ndarray, tilt_N3: np.ndarray) -> np.ndarray:
    return np.concatenate([tilt_N3[:, None], poses_N23x3], axis=1)


def _span(label: np.ndarray) -> range:
    return range(int(label.max()) + 1)


def _kernel(squared: np.ndarray, width: float) -> np.ndarray:
    """Gaussian weights, scaled so that each row's nearest has weight 1: far from all data the nearest is taken."""
    return np.exp(-(squared - squared.min(1, keepdims=True)) / (2 * width**2))


def _choose(weight_NM: np.ndarray, u_N: np.ndarray) -> np.ndarray:
    cumulated = np.cumsum(weight_NM, axis=1)
    return np.minimum((u_N[:, None] * cumulated[:, -1:] >= cumulated).sum(1), weight_NM.shape[1] - 1)


def _quantise(features_N24x9: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """(N, P) k-means labels of each part, without empty clusters."""
    try:
        from sklearn.cluster import KMeans
    except ImportError:
        raise PosesynError("learning a pose space needs scikit-learn: pip install 'posesyn[pose-space]'") from None
    labels = np.zeros((len(features_N24x9), _NODES), np.int64)
    for part in range(_NODES):
        values = part_features(features_N24x9, part)
        k = min(clusters, len(np.unique(values.round(3), axis=0)))
        if k > 1:
            found = KMeans(k, n_init=4, random_state=seed).fit_predict(values)
            labels[:, part] = np.unique(found, return_inverse=True)[1]
    return labels


def _learn_structure(labels_NP: np.ndarray, max_parents: int) -> np.ndarray:
    """(E, 2) edges: hill climbing on the clusters' BIC, whose penalty keeps the network sparse."""
    try:
        import pandas as pd
        from pgmpy.causal_discovery import HillClimbSearch
    except ImportError:
        raise PosesynError("learning a pose space needs pgmpy: pip install 'posesyn[pose-space]'") from None
    varying = [p for p in range(_NODES) if labels_NP[:, p].max() > 0]
    # Columns are numbers: the search walks over sets, and texts hash differently in every process.
    table = pd.DataFrame({p: labels_NP[:, p] for p in varying}).astype("category")
    search = HillClimbSearch(scoring_method="bic-d", max_indegree=max_parents, return_type="dag", show_progress=False)
    edges = sorted((int(a), int(b)) for a, b in search.fit(table).causal_graph_.edges())
    return np.array(edges, np.int64).reshape(-1, 2)
