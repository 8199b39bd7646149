"""Model files of the SMPL family with made-up content, byte for byte in the layouts that users have.

Keys, dtypes, shapes, opcodes and module names are the official ones; the numbers come from the free body: its
vertices, thinned or repeated to the official count, its shapes and weights, hands and faces improvised around it.
"""

from __future__ import annotations

import pickle
import struct
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy.sparse
import torch
from smplx.vertex_ids import vertex_ids

from human.body import load_body
from human.lbs import SMPL_PARENTS
from human.skeleton import POSE32

VERTICES = {"smpl": 6890, "smplh": 6890, "smplx": 10475}
ROOT = 4294967295  # the root's parent in the official kintree_table
FACE = {"nose": "nose", "left_eye": "leye", "right_eye": "reye", "left_ear": "lear", "right_ear": "rear"}


def _tree(kind: str) -> list[int]:
    if kind == "smpl":
        return list(SMPL_PARENTS)
    parents = list(SMPL_PARENTS[:22]) + ([15] * 3 if kind == "smplx" else [])
    for wrist in (20, 21):
        for _ in range(5):
            first = len(parents)
            parents += [wrist, first, first + 1]
    return parents


@cache
def body_arrays(kind: str, gender: str = "neutral", shapes: int | None = None) -> dict[str, Any]:
    """float64 arrays under the official keys. Same kind and gender: same numbers; treat as read-only."""
    count, parents = VERTICES[kind], _tree(kind)
    shapes = shapes or {"smpl": 10, "smplh": 16, "smplx": 20}[kind]
    rng = np.random.default_rng([len(kind), len(gender)])
    free = load_body("free")
    chosen = _choose_vertices(kind, count)
    template = free.v_template.double().numpy()[chosen]
    template = template * (1 + 0.02 * len(gender)) + [0.0, -0.2, 0.01]  # SMPL's pelvis is not the origin
    smooth = np.concatenate([np.sin(template * f) for f in (2.0, 5.0, 9.0)], axis=1)  # (V, 9)
    shapedirs = 0.004 * np.einsum("vf,fcs->vcs", smooth, rng.standard_normal((9, 3, shapes)))
    own = min(10, shapes)
    shapedirs[:, :, :own] = free.shapedirs.double().numpy()[chosen][:, :, :own]
    rest = free.J_template.double().numpy() * (1 + 0.02 * len(gender)) + [0.0, -0.2, 0.01]
    rest = rest + 0.008 * rng.standard_normal(rest.shape)  # no two models put their joints at the same place
    weights24 = free.weights.double().numpy()[chosen]
    joints, weights = _joints_and_weights(kind, template, rest, weights24, rng)
    posedirs = 0.002 * np.einsum("vf,fcp->vcp", smooth, rng.standard_normal((9, 3, 9 * (len(parents) - 1))))
    arrays: dict[str, Any] = {
        "v_template": template,
        "shapedirs": shapedirs,
        "posedirs": posedirs,
        "weights": weights,
        "J_regressor": _regressor(template, joints),
        "J": joints,
        "kintree_table": np.array(
            [[ROOT, *parents[1:]], range(len(parents))], np.uint32 if kind == "smpl" else np.int64
        ),
        "f": _faces(template),
    }
    if kind != "smpl":
        for side in "lr":
            arrays[f"hands_components{side}"] = np.linalg.qr(rng.standard_normal((45, 45)))[0]
            arrays[f"hands_coeffs{side}"] = rng.standard_normal((8, 45))
            arrays[f"hands_mean{side}"] = 0.2 * rng.standard_normal(45)
    if kind == "smplx":
        arrays["posedirs"] = posedirs.astype(np.float32)
        arrays["lmk_faces_idx"] = rng.integers(0, len(arrays["f"]), 51).astype(np.int64)
        arrays["lmk_bary_coords"] = rng.dirichlet(np.ones(3), 51)
        arrays["dynamic_lmk_faces_idx"] = rng.integers(0, len(arrays["f"]), (79, 17)).astype(np.int64)
        arrays["dynamic_lmk_bary_coords"] = rng.dirichlet(np.ones(3), (79, 17))
    return arrays


def _choose_vertices(kind: str, count: int) -> np.ndarray:
    """Vertices of the free body in a random order, with smplx's face landmarks where they belong."""
    free = load_body("free")
    order = np.random.default_rng(count).permutation(len(free.v_template))[:count]
    output = free(torch.zeros(1, 10), torch.zeros(1, 23, 3), torch.zeros(1, 3))
    numbers = vertex_ids["smplx" if kind == "smplx" else "smplh"]
    top = int(free.v_template[:, 1].argmax())
    wanted = [(numbers[short], output.joints[0, POSE32.index(name)]) for name, short in FACE.items()]
    for number, point in [*wanted, (0, free.v_template[top])]:
        order[number] = int((output.vertices[0] - point).norm(dim=1).argmin())
    return order


def _joints_and_weights(
    kind: str, template: np.ndarray, rest: np.ndarray, weights24: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    if kind == "smpl":
        return rest, weights24
    face = (
        rest[15] + [[0, 0.02, 0.05], [0.03, 0.06, 0.07], [-0.03, 0.06, 0.07]] if kind == "smplx" else np.zeros((0, 3))
    )
    weights = [weights24[:, :22], np.zeros((len(template), len(face)))]
    fingers = []
    for wrist, hand in ((20, 22), (21, 23)):
        side = np.sign(rest[wrist, 0])
        reach = np.array([[side * (0.07 + 0.025 * k), 0, 0.03 - 0.015 * f] for f in range(5) for k in range(3)])
        points = rest[wrist] + reach + 0.002 * rng.standard_normal((15, 3))
        points[3] = rest[hand]  # the middle finger's first joint
        fingers.append(points)
        near = np.exp(-np.linalg.norm(template[:, None] - points, axis=2) / 0.02) + 1e-12
        weights.append(weights24[:, [hand]] * near / near.sum(1, keepdims=True))
    all_weights = np.concatenate(weights, axis=1)
    if len(face):  # some of the head to jaw and eyes
        share = np.exp(-np.linalg.norm(template[:, None] - face, axis=2) / 0.02)
        share = 0.5 * share / (1 + share.sum(1, keepdims=True))
        all_weights[:, 22:25] = all_weights[:, [15]] * share
        all_weights[:, 15] *= 1 - share.sum(1)
    return np.concatenate([rest[:22], face, *fingers]), all_weights


def _regressor(template: np.ndarray, joints: np.ndarray) -> scipy.sparse.csc_matrix:
    """Rows that sum to 1 and hit the joints, over the 40 nearest vertices."""
    matrix = scipy.sparse.lil_matrix((len(joints), len(template)))
    for j, joint in enumerate(joints):
        near = np.argsort(np.linalg.norm(template - joint, axis=1), kind="stable")[:40]
        system = np.vstack([template[near].T, np.ones(40)])
        start = np.full(40, 1 / 40)
        matrix[j, near] = start + np.linalg.lstsq(system, np.append(joint, 1) - system @ start)[0]
    return matrix.tocsc()


def _faces(template: np.ndarray) -> np.ndarray:
    """A triangle at every vertex with two of its neighbours: enough for landmarks."""
    from scipy.spatial import cKDTree

    near = cKDTree(template).query(template, 3)[1]
    return near[:, [0, 2, 1]].astype(np.uint32)


# --- writing ---------------------------------------------------------------------------------------------------------


class Ch:
    """Pickles as chumpy's array does: `chumpy.ch.Ch` with a dict state."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x
        self._dirty_vars, self._itr, self._depends_on_deps = {"x"}, None, {}


class Select:
    """A chumpy slice: `chumpy.reordering.Select`."""

    def __init__(self, a: Ch, idxs: np.ndarray, preferred_shape: tuple[int, ...]) -> None:
        self.a, self.idxs, self.preferred_shape = a, idxs, preferred_shape


class Add:
    """An expression that only chumpy can evaluate: `chumpy.ch_ops.add`."""

    def __init__(self, a: Ch, b: Ch) -> None:
        self.a, self.b = a, b


@contextmanager
def chumpy() -> Iterator[None]:
    """Modules by chumpy's names, for as long as a file is written."""
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "chumpy"}
    for kind, (module, name) in {
        Ch: ("chumpy.ch", "Ch"), Select: ("chumpy.reordering", "Select"), Add: ("chumpy.ch_ops", "add")
    }.items():  # fmt: skip
        sys.modules.setdefault("chumpy", types.ModuleType("chumpy"))
        sys.modules[module] = types.ModuleType(module)
        setattr(sys.modules[module], name, kind)
        kind.__module__, kind.__qualname__, kind.__name__ = module, name, name
    try:
        yield
    finally:
        for name in ("chumpy", "chumpy.ch", "chumpy.reordering", "chumpy.ch_ops"):
            sys.modules.pop(name, None)
        sys.modules.update(before)


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Protocol 2 as Python 2 wrote it: byte strings without `_codecs.encode`, keys as byte strings."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def _save_string(self, value: bytes | str) -> None:
        data = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[bytes] = _save_string
    dispatch[str] = _save_string


def write_python2(path: Path, content: Any) -> Path:
    """As Python 2 with its numpy and scipy would have: old module names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with chumpy(), path.open("wb") as file:
        Python2Pickler(file, protocol=2).dump(content)
    data = path.read_bytes()
    for new, old in ((b"cscipy.sparse._csc\n", b"cscipy.sparse.csc\n"), (b"cnumpy._core.", b"cnumpy.core.")):
        data = data.replace(new, old)
    path.write_bytes(data)
    return path


def official_smpl(path: Path, gender: str = "neutral", change: Callable[[dict[str, Any]], None] | None = None) -> Path:
    """basicModel_*_lbs_10_207_0_v1.0.0.pkl: Python 2, chumpy, scipy."""
    content = dict(body_arrays("smpl", gender))
    wide = np.concatenate([content["shapedirs"], content["shapedirs"]], axis=2)
    index = np.arange(wide.size).reshape(wide.shape)[:, :, :10]
    content |= {
        "shapedirs": Select(Ch(wide), index.ravel(), index.shape),
        "posedirs": Ch(content["posedirs"]),
        "v_template": Ch(content["v_template"]),
        "J": Add(Ch(content["J"]), Ch(content["J"])),  # nobody needs it
        "J_regressor_prior": content["J_regressor"],
        "weights_prior": content["weights"],
        "bs_style": "lbs",
        "bs_type": "lrotmin",
        "pose_training_info": {"Note": "made up", "names": ["a", "b"]},
        "vert_sym_idxs": np.arange(VERTICES["smpl"]),
    }
    if change:
        change(content)
    return write_python2(path, content)


def plain_pickle(
    path: Path,
    kind: str,
    gender: str = "neutral",
    change: Callable[[dict[str, Any]], None] | None = None,
    protocol: int = 4,
) -> Path:
    """The chumpy-free .pkl that Python 3 users make, and SMPL-H's and SMPL-X's official ones."""
    content = dict(body_arrays(kind, gender)) | {"bs_style": "lbs", "bs_type": "lrotmin"}
    if change:
        change(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def npz(path: Path, kind: str, gender: str = "neutral", change: Callable[[dict[str, Any]], None] | None = None) -> Path:
    """SMPL-X's .npz (with its two pickled tables) and AMASS's smplh/*/model.npz: a dense regressor."""
    content = dict(body_arrays(kind, gender))
    content["J_regressor"] = content["J_regressor"].toarray()
    if kind == "smplx":
        content["joint2num"] = np.array({"Pelvis": 0, "L_Hip": 1}, object)
        content["part2num"] = np.array({"Global": 0}, object)
        content["vt"] = np.random.default_rng(0).uniform(size=(11313, 2))
        content["ft"] = np.random.default_rng(1).integers(0, 11313, content["f"].shape).astype(np.uint32)
    if change:
        change(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **content)
    return path
