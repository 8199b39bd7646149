"""SMPL, SMPL-H and SMPL-X model files in every layout that users have, as one record of checked arrays.

Read: the official .pkl (Python 2, chumpy arrays, scipy sparse regressor), the same without chumpy, AMASS's model.npz
and SMPL-X's .npz or .pkl. Which body a file holds is told from its number of joints, never from its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from human.errors import PosesynError
from human.lbs import SMPL_PARENTS
from human.safe_pickle import ArrayFile, Unreadable

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Layout:
    """What the files of one body model have in common."""

    title: str
    joints: int
    vertices: int
    hands: tuple[int, int] | None  # first finger joint of the left and of the right hand, 15 joints each
    face: tuple[int, ...] = ()  # jaw, left eye, right eye


LAYOUTS: dict[str, Layout] = {
    "smpl": Layout("SMPL", 24, 6890, None),
    "smplh": Layout("SMPL-H", 52, 6890, (22, 37)),
    "smplx": Layout("SMPL-X", 55, 10475, (25, 40), (22, 23, 24)),
}
_OTHERS = {16: "MANO", 5: "FLAME"}
# SMPL-X's files hold shape and then expression directions: 300 + 100, the oldest 10 + 10
_EXPRESSION_START = {400: 300, 20: 10}


@dataclass(frozen=True)
class SmplFile:
    """The arrays of one file, float32, metres; V vertices, J joints in the file's own order."""

    kind: str  # key of LAYOUTS
    path: Path
    v_template: F32  # (V, 3)
    shapedirs: F32  # (V, 3, S) metres per unit of beta
    expression: F32  # (V, 3, E) metres per unit of expression, E = 0 without a face
    posedirs: F32  # (V, 3, 9 (J - 1)) metres per entry of (rotation - identity) of joints 1 to J - 1
    faces: NDArray[np.int64]  # (F, 3)
    weights: F32  # (V, J), rows sum to 1
    J_regressor: Any  # scipy CSR (J, V) float64, rest vertices -> rest joints
    parents: tuple[int, ...]  # (J,), -1 for the pelvis
    hands_mean: F32 | None  # (2, 45) rotation vectors of the relaxed hand, left and right
    hands_components: F32 | None  # (2, 45, 45) principal components, one a row
    uv: F32 | None  # (T, 2)
    faces_uv: NDArray[np.int64] | None  # (F, 3)
    mirror: NDArray[np.int64] | None  # (V,)


def read_smpl_file(path: str | Path, kind: str | None = None) -> SmplFile:
    """Read and check a model file.

    Args:
        kind: "smpl", "smplh" or "smplx"; a file that holds another is refused. None takes what is there.

    Raises:
        PosesynError: the file cannot be read, is another body's, lacks a key, or holds NaN or wrong shapes.
    """
    path = Path(path)
    data = ArrayFile(path)
    parents = _parents(path, data)
    found = next((k for k, layout in LAYOUTS.items() if layout.joints == len(parents)), None)
    template = _floats(path, data, "v_template", (None, 3))
    if found is None or (kind is not None and found != kind):
        wanted = " or ".join(LAYOUTS[k].title for k in ([kind] if kind else LAYOUTS))
        holds = LAYOUTS[found].title if found else _OTHERS.get(len(parents), "an unknown body")
        raise PosesynError(
            f"{path} holds {holds} ({len(parents)} joints, {len(template)} vertices), not {wanted}: "
            "give the file of the body you asked for"
        )
    layout = LAYOUTS[found]
    if len(template) != layout.vertices:
        raise PosesynError(
            f"{path} has {len(template)} vertices where {layout.title} has {layout.vertices}: landmarks are known by "
            "vertex number only for the official mesh; give the original file"
        )
    body = SMPL_PARENTS if layout.hands is None else SMPL_PARENTS[:22]
    fingers = [parents[first + 3 * k] for first in layout.hands or () for k in range(5)]
    if parents[: len(body)] != body or fingers not in ([], [20] * 5 + [21] * 5):
        raise PosesynError(f"{path}: kintree_table is not {layout.title}'s tree of joints; give the original file")
    vertices, joints = layout.vertices, layout.joints
    shape = _floats(path, data, "shapedirs", (vertices, 3, None))
    start = _EXPRESSION_START.get(shape.shape[2], shape.shape[2]) if layout.face else shape.shape[2]
    weights = _floats(path, data, "weights", (vertices, joints))
    if abs(weights.sum(1) - 1).max() > 1e-2:
        raise PosesynError(f"{path}: the skinning weights of some vertices do not sum to 1; give the original file")
    hands = layout.hands is not None
    left_right = ("hands_mean{}", (45,)), ("hands_components{}", (45, 45))
    mean, components = (
        np.stack([_floats(path, data, name.format(side), size) for side in "lr"]) if hands else None
        for name, size in left_right
    )
    faces = _indices(path, data, "f", vertices)
    uv = faces_uv = None
    if "vt" in data and "ft" in data:
        uv = _floats(path, data, "vt", (None, 2))
        faces_uv = _indices(path, data, "ft", len(uv))
        if faces_uv.shape != faces.shape:
            raise PosesynError(f"{path}: 'ft' has {len(faces_uv)} rows for {len(faces)} faces; give the original file")
    mirror = None
    if "vert_sym_idxs" in data:
        mirror = np.asarray(data["vert_sym_idxs"]).astype(np.int64).ravel()
        if len(mirror) != vertices or mirror.min() < 0 or mirror.max() >= vertices:
            mirror = None  # not needed: the nearest mirrored vertex does as well
    return SmplFile(
        kind=found,
        path=path,
        v_template=template,
        shapedirs=shape[:, :, :start],
        expression=shape[:, :, start:],
        posedirs=_floats(path, data, "posedirs", (vertices, 3, 9 * (joints - 1))),
        faces=faces,
        weights=weights,
        J_regressor=_regressor(path, data, (joints, vertices)),
        parents=parents,
        hands_mean=mean,
        hands_components=components,
        uv=uv,
        faces_uv=faces_uv,
        mirror=mirror,
    )


def read_vertex_map(path: str | Path) -> Any:
    """A linear map from one mesh's vertices to another's, scipy CSR (V_target, V_source) float32.

    Reads the official model-transfer pickles (smplx2smpl_deftrafo_setup.pkl and its siblings: a matrix `mtx` of
    V_target x 2 V_source, whose second half acts on normals and is not used here; or `matrix`), and scipy's own .npz.

    Raises:
        PosesynError: the file cannot be read or holds no such matrix.
    """
    path = Path(path)
    data = ArrayFile(path)
    if "format" in data:  # scipy.sparse.save_npz
        parts = {key: data[key] for key in ("data", "indices", "indptr", "shape")}
        build = scipy.sparse.csc_matrix if "csc" in str(data["format"]) else scipy.sparse.csr_matrix
        try:
            matrix = build((parts["data"], parts["indices"], parts["indptr"]), shape=tuple(parts["shape"].tolist()))
            matrix.check_format(full_check=True)
        except ValueError as error:
            raise PosesynError(f"{path} is a damaged sparse matrix ({error}): get it again") from error
    else:
        matrix = data["mtx" if "mtx" in data else "matrix"]
        if isinstance(matrix, np.ndarray) and matrix.ndim == 2 and matrix.dtype.kind in "fiu":
            matrix = scipy.sparse.csr_matrix(matrix)
        if not scipy.sparse.issparse(matrix):
            raise PosesynError(f"{path}: the map is no matrix of numbers; give smplx's model-transfer file")
        counts = {layout.vertices for layout in LAYOUTS.values()}
        if matrix.shape[1] // 2 in counts and matrix.shape[1] not in counts:
            matrix = matrix.tocsc()[:, : matrix.shape[1] // 2]
    if not np.isfinite(matrix.data).all():
        raise PosesynError(f"{path}: the map holds NaN or infinite numbers: get it again")
    return matrix.tocsr().astype(np.float32)


def _array(path: Path, data: ArrayFile, key: str) -> NDArray[Any]:
    value = data[key]
    if isinstance(value, Unreadable):
        raise PosesynError(
            f"{path}: {key!r} is a {value.kind}, which only chumpy can evaluate; give the official file, "
            "or save that array as numpy"
        )
    if scipy.sparse.issparse(value):
        value = value.toarray()
    value = np.asarray(value)
    if value.dtype.kind not in "fiu":
        raise PosesynError(f"{path}: {key!r} holds no numbers ({value.dtype}); give the original file")
    return value


def _floats(path: Path, data: ArrayFile, key: str, shape: tuple[int | None, ...]) -> F32:
    value = _array(path, data, key)
    if value.ndim != len(shape) or any(w not in (None, n) for n, w in zip(value.shape, shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise PosesynError(f"{path}: {key!r} has shape {value.shape}, not ({wanted}); give the original file")
    value = np.ascontiguousarray(value, dtype=np.float32)
    if not np.isfinite(value).all():
        raise PosesynError(f"{path}: {key!r} holds NaN or infinite numbers: get the file again")
    return value


def _indices(path: Path, data: ArrayFile, key: str, rows: int) -> NDArray[np.int64]:
    value = _array(path, data, key).astype(np.int64)
    if value.ndim != 2 or value.shape[1] != 3 or not len(value) or value.min() < 0 or value.max() >= rows:
        raise PosesynError(f"{path}: {key!r} is no list of triangles over {rows} points; give the original file")
    return value


def _parents(path: Path, data: ArrayFile) -> tuple[int, ...]:
    table = _array(path, data, "kintree_table")
    if table.ndim != 2 or len(table) != 2:
        raise PosesynError(f"{path}: 'kintree_table' has shape {table.shape}, not (2, joints); give the original file")
    parents = [-1, *(int(p) for p in table[0, 1:])]  # the root's parent is 2**32 - 1 in some files
    if any(not 0 <= p < j for j, p in enumerate(parents[1:], start=1)):
        raise PosesynError(f"{path}: 'kintree_table' is no tree with parents first; give the original file")
    return tuple(parents)


def _regressor(path: Path, data: ArrayFile, shape: tuple[int, int]) -> Any:
    value = data["J_regressor"]
    matrix = value if scipy.sparse.issparse(value) else scipy.sparse.csr_matrix(_array(path, data, "J_regressor"))
    if matrix.shape != shape:
        raise PosesynError(f"{path}: 'J_regressor' has shape {matrix.shape}, not {shape}; give the original file")
    matrix = matrix.tocsr().astype(np.float64)
    if not np.isfinite(matrix.data).all():
        raise PosesynError(f"{path}: 'J_regressor' holds NaN or infinite numbers: get the file again")
    matrix.sum_duplicates()
    return matrix
