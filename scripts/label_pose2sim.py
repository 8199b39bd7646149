"""Label the Pose2Sim demo (4 calibrated cameras x 100 frames) in 3D from an off-the-shelf 2D detector.

    python scripts/label_pose2sim.py PATH/TO/Demo_SinglePerson datamodules/data/pose2sim_labels.npz --draw /some/folder

Runs in the environment that ``scripts/landmarks.py`` describes (about 3 minutes on two cores; the detections are kept
in ``--detections`` and reused). Method, thresholds and what the labels are worth: docs/data/pose2sim.md. Steps:

1. 2D: MediaPipe Pose on three crop scales, each also mirrored; per joint the median of the six.
2. Cameras: the demo's calibration with a small rotation per camera refined (positions and intrinsics kept).
3. Left/right: per frame and joint pair, the exchange of views that agree best in 3D (16 choices, exchanges penalised).
4. 3D: best of all camera subsets by DLT (Hartley & Zisserman 2004, section 12.2), then one robust non-linear fit per
   joint over all frames: Huber reprojection error plus a light acceleration prior.
5. A joint counts where at least 3 views agree within ``AGREE`` px.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from landmarks import (
    LandmarkDetector,
    draw_skeleton,
    frames,
    interpolate_boxes,
    joints_box,
)
from rich.progress import track
from scipy.optimize import least_squares
from scipy.sparse import lil_matrix
from scipy.spatial.transform import Rotation

VIDEO = "videos/cam{:02d}.mp4"
CALIBRATION = "calibration/Calib.qca.txt"
CAMERAS = (1, 2, 3, 4)
PAIRS = ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16))
BODY_PAIRS = PAIRS[2:]

AGREE = 25.0  # px: a view supports a joint within this distance (about 3.5 % of the person's height)
MIN_VIEWS = 3
HUBER = 6.0  # px
ACCELERATION = 0.008  # m per frame^2, standard deviation of the smoothness prior (29 m/s^2 at 60 fps)
SWAP_COST = 8.0  # px per exchanged view: exchange only where it clearly pays
ROTATION_PRIOR = np.deg2rad(1.0)

# Static points clicked in the first frame of each camera (px, pixel centres; about 2 px accurate): four fixing screws
# of the treadmill and the top centres of its two posts. They tie the cameras where the feet are.
MARKS = (
    {1: (278.4, 1358.7), 2: (283.6, 1215.0), 4: (932.0, 1056.0)},
    {1: (788.5, 1278.0), 2: (803.0, 1269.0), 3: (142.5, 1272.0)},
    {1: (66.0, 1058.0), 3: (912.6, 1228.5), 4: (885.0, 1428.0)},
    {1: (511.0, 1034.0), 2: (823.5, 1064.0), 3: (520.0, 1502.0), 4: (325.0, 1463.0)},
    {1: (667.9, 1522.5), 2: (274.4, 1318.4), 3: (260.8, 971.0), 4: (832.0, 858.7)},
    {1: (947.5, 1427.4), 2: (630.7, 1345.2), 3: (61.0, 1059.0), 4: (608.4, 923.2)},
)


@dataclass(frozen=True)
class Rig:
    """Pinhole cameras: K (C,3,3), R (C,3,3) world to camera, centre (C,3) m; dist (C,4) as in the file, / 64."""

    K: np.ndarray
    R: np.ndarray
    centre: np.ndarray
    dist: np.ndarray

    @property
    def P(self) -> np.ndarray:
        t = -np.einsum("cij,cj->ci", self.R, self.centre)
        return self.K @ np.concatenate([self.R, t[..., None]], axis=-1)

    def project(self, X_N3: np.ndarray) -> np.ndarray:
        """(C, N, 2) px."""
        return project_P(self.P[:, None], X_N3[None])


def project_P(P: np.ndarray, X: np.ndarray) -> np.ndarray:
    x = np.einsum("...ij,...j->...i", P[..., :3], X) + P[..., 3]
    return x[..., :2] / x[..., 2:]


def read_rig(path: Path) -> Rig:
    """Qualisys ``.qca.txt``: intrinsics are in 1/64 px; R rows as written, turned 180 degrees about x to OpenCV."""
    K, R, centre, dist = [], [], [], []
    for camera in ElementTree.parse(path).getroot().iter("camera"):
        pose, lens = camera.find("transform"), camera.find("intrinsic")
        if pose is None or lens is None:
            raise SystemExit(f"{path}: a camera without transform or intrinsic")
        r = np.array([[float(pose.attrib[f"r{i}{j}"]) for j in (1, 2, 3)] for i in (1, 2, 3)])
        value = {k: float(v) / 64 for k, v in lens.attrib.items()}
        fx, fy, cx, cy = (value[n] for n in ("focalLengthU", "focalLengthV", "centerPointU", "centerPointV"))
        K.append([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        names = ("radialDistortion1", "radialDistortion2", "tangentalDistortion1", "tangentalDistortion2")
        dist.append([value[n] for n in names])
        R.append(np.diag([1.0, -1, -1]) @ r)
        centre.append([float(pose.attrib[k]) / 1000 for k in "xyz"])
    return Rig(np.array(K), np.array(R), np.array(centre), np.array(dist))


def dlt(P_C34: np.ndarray, uv_NC2: np.ndarray, weight_NC: np.ndarray) -> np.ndarray:
    """(N, 3) linear triangulation, rows scaled by weight (Hartley & Zisserman 2004, section 12.2)."""
    scale = 1.0 / np.linalg.norm(P_C34[:, 2, :3], axis=-1) / P_C34[:, 0, 0]
    rows = uv_NC2[..., None] * P_C34[None, :, 2:3] - P_C34[None, :, :2]  # N,C,2,4
    rows = rows * (weight_NC * scale)[..., None, None]
    X = np.linalg.svd(rows.reshape(len(uv_NC2), -1, 4))[2][:, -1]
    return X[:, :3] / X[:, 3:]


def consensus(P: np.ndarray, uv_NC2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exhaustive RANSAC: DLT on each subset of >= 2 cameras, lowest capped error. Returns X (N,3), cost (N,) px."""
    count = uv_NC2.shape[1]
    cameras = range(count)
    best, cost = np.zeros((len(uv_NC2), 3)), np.full(len(uv_NC2), np.inf)
    for size in range(count, 1, -1):
        for subset in itertools.combinations(cameras, size):
            weight = np.isin(cameras, subset).astype(float)
            X = dlt(P, uv_NC2, np.broadcast_to(weight, uv_NC2.shape[:2]))
            error = np.linalg.norm(project_P(P[None], X[:, None]) - uv_NC2, axis=-1)
            # two cameras always agree with each other: a small charge per camera left out
            c = np.minimum(error, 2 * AGREE).sum(1) + (count - size) * 2.0
            better = c < cost
            best[better], cost[better] = X[better], c[better]
    return best, cost


def huber_fit(P_C34: np.ndarray, uv_TC2: np.ndarray, sigma_TC: np.ndarray, start_T3: np.ndarray) -> np.ndarray:
    """(T, 3) trajectory of one joint: Huber reprojection error / sigma, plus the acceleration prior."""
    T, C = uv_TC2.shape[:2]

    def residuals(x: np.ndarray) -> np.ndarray:
        X = x.reshape(T, 3)
        error = (project_P(P_C34[None], X[:, None]) - uv_TC2) / sigma_TC[..., None]
        norm = np.maximum(np.linalg.norm(error, axis=-1, keepdims=True), 1e-9)
        # root of the Huber loss along the error's direction, so that both coordinates are robust together
        robust = np.where(norm <= 1, error, error / norm * np.sqrt(np.maximum(2 * norm - 1, 0)))
        return np.concatenate([robust.ravel(), (np.diff(X, 2, axis=0) / ACCELERATION).ravel()])

    pattern = lil_matrix((T * C * 2 + (T - 2) * 3, T * 3), dtype=int)
    for t in range(T):
        pattern[t * C * 2 : (t + 1) * C * 2, 3 * t : 3 * t + 3] = 1
    for t in range(T - 2):
        for k in range(3):
            pattern[T * C * 2 + 3 * t + k, [3 * t + k, 3 * t + 3 + k, 3 * t + 6 + k]] = 1
    return least_squares(residuals, start_T3.ravel(), jac_sparsity=pattern, max_nfev=80).x.reshape(T, 3)


def detect(root: Path) -> np.ndarray:
    """(C, T, A, 17, 3) augmented detections of the athlete (the largest person) in every camera and frame."""
    detector = LandmarkDetector()
    out = []
    for camera in CAMERAS:
        pictures = list(frames(root / VIDEO.format(camera)))
        first = [detector(p) if t % 2 == 0 else None for t, p in enumerate(pictures)]
        boxes = interpolate_boxes(np.array([np.full(4, np.nan) if j is None else joints_box(j) for j in first]))
        work = track(list(zip(pictures, boxes, strict=True)), description=f"camera {camera}")
        out.append(np.stack([detector.augmented(p, b) for p, b in work]))
    return np.stack(out)


def refine_rotations(rig: Rig, mid_TCM2: np.ndarray, use_marks: bool = True) -> Rig:
    """Rotate each camera a little so that the marks and the left-right midpoints (free of exchanges) agree.

    With ``use_marks=False`` the marks are only measured: the check that the midpoints alone find the same cameras.
    """
    T, C, M = mid_TCM2.shape[:3]
    uv, weight = [], []
    for mark in MARKS:
        uv.append([mark.get(c, (0, 0)) for c in CAMERAS])
        weight.append([1.0 / 3 if c in mark else 0.0 for c in CAMERAS])
    uv += list(mid_TCM2.transpose(0, 2, 1, 3).reshape(T * M, C, 2))
    weight += [[1.0 / 10] * C] * (T * M)  # 1 / px: the detector's midpoints are worth less than clicks
    uv_N, w_N = np.array(uv, dtype=float), np.array(weight)
    seen_N = w_N > 0
    start = dlt(rig.P, uv_N, seen_N.astype(float))
    if not use_marks:
        w_N[: len(MARKS)] = 0

    def rotated(turn_C3: np.ndarray) -> Rig:
        return replace(rig, R=Rotation.from_rotvec(turn_C3).as_matrix() @ rig.R)

    def residuals(x: np.ndarray) -> np.ndarray:
        turn, X = x[: 3 * C].reshape(C, 3), x[3 * C :].reshape(-1, 3)
        error = (rotated(turn).project(X).transpose(1, 0, 2) - uv_N) * w_N[..., None]
        return np.concatenate([error.ravel(), turn.ravel() / ROTATION_PRIOR])

    N = len(uv_N)
    pattern = lil_matrix((N * C * 2 + 3 * C, 3 * C + 3 * N), dtype=int)
    for n in range(N):
        for c in range(C):
            rows = slice((n * C + c) * 2, (n * C + c) * 2 + 2)
            pattern[rows, 3 * c : 3 * c + 3] = 1
            pattern[rows, 3 * C + 3 * n : 3 * C + 3 * n + 3] = 1
    pattern[N * C * 2 :, : 3 * C] = np.tile(np.eye(3, dtype=int), (C, C))
    x0 = np.concatenate([np.zeros(3 * C), start.ravel()])
    x = least_squares(residuals, x0, jac_sparsity=pattern, loss="huber", max_nfev=60).x
    turn = x[: 3 * C].reshape(C, 3)
    for label, r in (("before", rig), (f"after (marks {'used' if use_marks else 'held out'})", rotated(turn))):
        X = dlt(r.P, uv_N, seen_N.astype(float))
        error = np.linalg.norm(r.project(X).transpose(1, 0, 2) - uv_N, axis=-1)
        n = len(MARKS)
        print(f"cameras {label}: marks rms {np.sqrt((error[:n][seen_N[:n]] ** 2).mean()):.1f} px, ", end="")
        print(f"midpoints median {np.median(error[n:]):.1f} px")
    print("rotation per camera (deg):", np.rad2deg(np.linalg.norm(turn, axis=1)).round(2).tolist())
    return rotated(turn)


def resolve_swaps(P: np.ndarray, joints_TCJ2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exchange left and right of a pair in the views where that makes the views agree. Also (T, C, pairs) flags."""
    fixed = joints_TCJ2.copy()
    T, C = joints_TCJ2.shape[:2]
    flags = np.zeros((T, C, len(PAIRS)), bool)
    options = np.array(list(itertools.product((False, True), repeat=C)))
    for k, (left, right) in enumerate(PAIRS):
        costs = []
        for option in options:
            l_TC2 = np.where(option[None, :, None], joints_TCJ2[:, :, right], joints_TCJ2[:, :, left])
            r_TC2 = np.where(option[None, :, None], joints_TCJ2[:, :, left], joints_TCJ2[:, :, right])
            costs.append(consensus(P, l_TC2)[1] + consensus(P, r_TC2)[1] + SWAP_COST * option.sum())
        flags[:, :, k] = options[np.argmin(costs, axis=0)]
        swap = flags[:, :, k, None]
        fixed[:, :, left] = np.where(swap, joints_TCJ2[:, :, right], joints_TCJ2[:, :, left])
        fixed[:, :, right] = np.where(swap, joints_TCJ2[:, :, left], joints_TCJ2[:, :, right])
    return fixed, flags


def solve(raw_CTAJ3: np.ndarray, rig: Rig) -> dict[str, np.ndarray]:
    """All labels, as saved."""
    seen = raw_CTAJ3.transpose(1, 0, 2, 3, 4)
    joints_TCJ2 = np.nanmedian(seen[..., :2], axis=2)
    spread_TCJ = np.nanmedian(np.linalg.norm(seen[..., :2] - joints_TCJ2[:, :, None], axis=-1), axis=2)
    middle = np.stack([joints_TCJ2[:, :, [a, b]].mean(2) for a, b in ((5, 6), (11, 12), (13, 14), (15, 16))], axis=2)
    refine_rotations(rig, middle[::5], use_marks=False)  # printed, for the record
    rig = refine_rotations(rig, middle[::5])
    P = rig.P
    joints_TCJ2, swapped = resolve_swaps(P, joints_TCJ2)

    T, C, J = joints_TCJ2.shape[:3]
    joints3d = np.zeros((T, J, 3))
    for j in track(range(J), description="triangulating"):
        start, _ = consensus(P, joints_TCJ2[:, :, j])
        sigma = np.maximum(HUBER, spread_TCJ[:, :, j])
        joints3d[:, j] = huber_fit(P, joints_TCJ2[:, :, j], sigma, start)
    reprojected = rig.project(joints3d.reshape(-1, 3)).reshape(C, T, J, 2).transpose(1, 0, 2, 3)
    residual = np.linalg.norm(reprojected - joints_TCJ2, axis=-1)
    support = (residual < AGREE).sum(1)
    conf = (support >= MIN_VIEWS).astype(np.uint8)
    return {
        "joints3d": joints3d.astype(np.float32),
        "conf": conf,
        "support": support.astype(np.uint8),
        "joints2d": reprojected.astype(np.float32),
        "detections": joints_TCJ2.astype(np.float32),
        "residual": residual.astype(np.float16),
        "spread": spread_TCJ.astype(np.float16),
        "swapped": swapped,
        "K": rig.K,
        "R": rig.R,
        "t": -np.einsum("cij,cj->ci", rig.R, rig.centre),
        "dist": rig.dist,
        "cameras": np.array(CAMERAS),
    }


def report(labels: dict[str, np.ndarray]) -> None:
    """Print the numbers that docs/data/pose2sim.md quotes."""
    X, conf = labels["joints3d"].astype(float), labels["conf"] > 0
    residual, j2 = labels["residual"].astype(float), labels["joints2d"]
    height = np.median(j2[..., 1].max(-1) - j2[..., 1].min(-1), axis=0)
    for name, joints in (("face", range(5)), ("body", range(5, 17)), ("hips", (11, 12)), ("wrists", (9, 10))):
        j = list(joints)
        kept = np.broadcast_to(conf[:, None], residual.shape)[..., j]
        r = residual[..., j]
        relative = (r / height[None, :, None])[kept] * 100
        print(
            f"{name}: masked {1 - conf[:, j].mean():.3f}; kept residual median {np.median(r[kept]):.1f} px, p90 "
            f"{np.percentile(r[kept], 90):.1f} px ({np.median(relative):.2f} %, {np.percentile(relative, 90):.2f} % of "
            f"person height); all median {np.median(r):.1f}, p90 {np.percentile(r, 90):.1f} px"
        )
    for c in range(4):
        r, flips = residual[:, c, 5:], labels["swapped"][:, c, 2:]
        bias = (j2 - labels["detections"])[:, c, 5:].reshape(-1, 2)
        offset = np.median(bias, axis=0).astype(float).round(1).tolist()
        print(
            f"camera {c + 1}: height {height[c]:.0f} px, median {np.median(r):.1f}, p90 {np.percentile(r, 90):.1f} px, "
            f"median offset {offset} px, pairs exchanged {flips.mean():.3f}"
        )
    bones: dict[str, tuple[tuple[int, int], ...]] = {
        "upper arm": ((5, 7), (6, 8)),
        "forearm": ((7, 9), (8, 10)),
        "thigh": ((11, 13), (12, 14)),
        "shank": ((13, 15), (14, 16)),
        "trunk": ((5, 11), (6, 12)),
        "shoulders": ((5, 6),),
        "hips": ((11, 12),),
    }
    for name, sides in bones.items():
        words = []
        for a, b in sides:
            length = np.linalg.norm(X[:, a] - X[:, b], axis=-1)[conf[:, a] & conf[:, b]]
            spread = length.std() / length.mean() * 100
            words.append(f"{length.mean() * 100:.1f} cm +- {spread:.1f} % (n {len(length)})")
        print(f"{name}: " + " | ".join(words))
    step = np.linalg.norm(np.diff(X[:, 5:], 2, axis=0), axis=-1) * 1000
    print(f"second difference of limb joints: median {np.median(step):.1f} mm, p99 {np.percentile(step, 99):.1f} mm")
    P = labels["K"] @ np.concatenate([labels["R"], labels["t"][..., None]], axis=-1)
    for c in range(4):
        others = [k for k in range(4) if k != c]
        seen = labels["detections"][:, :, 5:].astype(float).transpose(0, 2, 1, 3).reshape(-1, 4, 2)
        without, _ = consensus(P[others], seen[:, others])
        move = np.linalg.norm(without - X[:, 5:].reshape(-1, 3), axis=-1)[conf[:, 5:].ravel()] * 1000
        miss = np.linalg.norm(project_P(P[c], without) - seen[:, c], axis=-1)[conf[:, 5:].ravel()]
        print(
            f"without camera {c + 1}: limb joints move by median {np.median(move):.0f} mm, p90 "
            f"{np.percentile(move, 90):.0f} mm; its own detections are missed by median {np.median(miss):.1f} px"
        )


def draw(labels: dict[str, np.ndarray], root: Path, folder: Path, every: int = 12) -> None:
    """One strip per camera: reprojection (left orange, right blue, masked grey) and detections (white dots)."""
    folder.mkdir(parents=True, exist_ok=True)
    for c, camera in enumerate(CAMERAS):
        strip = []
        for t, rgb in enumerate(frames(root / VIDEO.format(camera))):
            if t % every:
                continue
            points, keep = labels["joints2d"][t, c], labels["conf"][t] > 0
            draw_skeleton(rgb, points, keep, 5)
            for p in labels["detections"][t, c]:
                cv2.circle(rgb, (int(p[0]), int(p[1])), 5, (255, 255, 255), -1)
            x, y = points[5:, :].mean(0).astype(int)
            x0, y0 = max(x - 340, 0), max(y - 470, 0)
            tile = rgb[y0 : y0 + 940, x0 : x0 + 680]
            tile = cv2.copyMakeBorder(tile, 0, 940 - tile.shape[0], 0, 680 - tile.shape[1], cv2.BORDER_CONSTANT)
            strip.append(cv2.resize(tile, (340, 470), interpolation=cv2.INTER_AREA))
        cv2.imwrite(str(folder / f"camera{camera}.png"), np.hstack(strip)[..., ::-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="the unpacked Demo_SinglePerson folder (videos/, calibration/)")
    parser.add_argument("out", type=Path)
    parser.add_argument("--detections", type=Path, help="keep or reuse the raw 2D detections in this .npy file")
    parser.add_argument("--draw", type=Path, help="write pictures to look at into this folder")
    arguments = parser.parse_args()
    if arguments.detections and arguments.detections.is_file():
        raw = np.load(arguments.detections)
    else:
        raw = detect(arguments.root)
        if arguments.detections:
            np.save(arguments.detections, raw)
    labels = solve(raw, read_rig(arguments.root / CALIBRATION))
    report(labels)
    np.savez_compressed(arguments.out, allow_pickle=False, **labels)
    if arguments.draw:
        draw(labels, arguments.root, arguments.draw)
    return 0


if __name__ == "__main__":
    sys.exit(main())
