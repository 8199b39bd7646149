"""What other people's evaluation code says about the arrays of ``tests/metrics/arrays.py``.

Writes ``tests/metrics/known_answers.json``, which ``tests/metrics/test_known_answers.py`` compares with
:mod:`metrics.functional`. The functions are taken out of the checkouts' files by name and run as they are, in float64
(``torch.set_default_dtype``), with stand-ins only for loggers and registries; none of their code is kept here.

    python -m scripts.metric_reference FOLDER

FOLDER holds checkouts named ``SPIN``, ``4D-Humans``, ``emdb``, ``mmpose``, ``3dpw-eval``, ``WHAM``, ``margipose`` and
``STRAPS-3DHumanShapePose``.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch

from tests.metrics.arrays import known_arrays, short_torso

OUT = Path(__file__).parents[1] / "tests" / "metrics" / "known_answers.json"
SOURCES = {
    "SPIN": "utils/pose_utils.py",
    "4D-Humans": "hmr2/utils/pose_utils.py",
    "4D-Humans-pck": "hmr2/utils/pck_accuracy.py",
    "emdb": "evaluation_metrics.py",
    "mmpose": "mmpose/evaluation/functional/keypoint_eval.py",
    "mmpose-mesh": "mmpose/evaluation/functional/mesh_eval.py",
    "mmpose-2d": "mmpose/evaluation/metrics/keypoint_2d_metrics.py",
    "3dpw-eval": "evaluate.py",
    "WHAM": "lib/eval/eval_utils.py",
    "margipose": "src/margipose/eval.py",
    "margipose-losses": "src/margipose/dsntnn.py",
    "STRAPS-3DHumanShapePose": "utils/eval_utils.py",
}
CHECKOUTS = ("SPIN", "4D-Humans", "emdb", "mmpose", "3dpw-eval", "WHAM", "margipose", "STRAPS-3DHumanShapePose")


class _Base:
    """Stands in for mmengine's BaseMetric."""

    def __init__(self, **_: Any) -> None:
        self.results: list[dict] = []


def definitions(path: Path, **given: Any) -> dict[str, Any]:
    """Functions, classes and constants of a file, without its imports and decorators; what fails is left out."""
    space: dict[str, Any] = {"np": np, "torch": torch, "cv2": cv2, "warnings": warnings} | given
    exec("from typing import *\nfrom collections.abc import Sequence", space)
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Assign):
            if not isinstance(node, ast.Assign):
                node.decorator_list = []
            try:
                exec(compile(ast.Module([node], []), str(path), "exec"), space)
            except (NameError, AttributeError):
                continue
    return space


def main(folder: Path) -> None:
    torch.set_default_dtype(torch.float64)
    a = known_arrays()

    def code(name: str, **given: Any) -> dict[str, Any]:
        checkout = next(c for c in sorted(CHECKOUTS, key=len, reverse=True) if name.startswith(c))
        return definitions(folder / checkout / SOURCES[name], **given)

    answers: dict[str, Any] = {}
    pred, target = a["pred_joints"], a["target_joints"]
    rooted = [x - x[:, :1] for x in (pred, target)]

    answers["SPIN pa_mpjpe"] = 1000 * code("SPIN")["reconstruction_error"](pred, target, reduction=None)
    hmr2 = code("4D-Humans")
    mpjpe, pa_mpjpe = hmr2["eval_pose"](*(torch.from_numpy(x) for x in rooted))
    answers |= {"4D-Humans mpjpe": mpjpe, "4D-Humans pa_mpjpe": pa_mpjpe}

    emdb = code("emdb")
    errors = emdb["compute_positional_errors"](
        1000 * pred, 1000 * target, 1000 * a["pred_verts"], 1000 * a["target_verts"]
    )
    for ours, theirs in {
        "mpjpe": "mpjpe_pf",
        "pa_mpjpe": "mpjpe_pf_pa",
        "pve": "mve_pf",
        "pa_pve": "mve_pf_pa",
    }.items():
        answers[f"emdb {ours}"] = errors[theirs]
    parts = a["pred_rotations"][:, emdb["SMPL_OR_JOINTS"]]
    answers["emdb mpjae"] = emdb["joint_angle_error"](parts, a["target_rotations"])[1].mean(1)
    turned = errors["mat_procs"][:, None] @ parts
    answers["emdb pa_mpjae"] = emdb["joint_angle_error"](turned, a["target_rotations"])[1].mean(1)
    answers["emdb jitter"] = emdb["compute_jitter"](a["pred_moving"].copy(), a["target_moving"].copy())[0]

    challenge = code("3dpw-eval")
    mpjpe, pa_mpjpe, distances, _ = challenge["compute_errors"](1000 * pred, 1000 * target)
    answers |= {"3dpw-eval mpjpe": mpjpe, "3dpw-eval pa_mpjpe": pa_mpjpe}
    answers["3dpw-eval mpjae"] = np.degrees(challenge["joint_angle_error"](parts, a["target_rotations"]))
    answers["3dpw-eval pck"] = challenge["compute_pck"](distances, challenge["PCK_THRESH"])
    thresholds = np.arange(challenge["AUC_MIN"], challenge["AUC_MAX"])
    curve = [challenge["compute_pck"](distances, t) for t in thresholds]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quadrature of a broken line: it says that it is not exact
        answers["3dpw-eval auc"] = challenge["compute_auc"](thresholds / thresholds.max(), curve)

    losses = code("margipose-losses")
    three = code("margipose", euclidean_losses=losses["euclidean_losses"])
    millimetres = [1000 * torch.from_numpy(x) for x in rooted]
    answers["margipose pck"], answers["margipose auc"] = three["pck"](*millimetres), three["auc"](*millimetres)

    mesh = code("mmpose-mesh")
    keypoint = code("mmpose", compute_similarity_transform=mesh["compute_similarity_transform"])
    mask = np.ones(pred.shape[:2], bool)
    for ours, theirs in {"mpjpe": "none", "n_mpjpe": "scale", "pa_mpjpe": "procrustes"}.items():
        answers[f"mmpose {ours}"] = 1000 * keypoint["keypoint_mpjpe"](*(x.copy() for x in rooted), mask, theirs)
    logger = SimpleNamespace(get_current_instance=lambda: SimpleNamespace(info=lambda _: None))
    metrics = code(
        "mmpose-2d", BaseMetric=_Base, MMLogger=logger, keypoint_pck_accuracy=keypoint["keypoint_pck_accuracy"]
    )

    def persons(pred_k: np.ndarray, target_k: np.ndarray, visible: np.ndarray) -> list[dict]:
        return [
            {
                "pred_instances": {"keypoints": p[None]},
                "gt_instances": {"keypoints": t[None], "keypoints_visible": v[None], "head_size": h, "bboxes": b[None]},
            }
            for p, t, v, h, b in zip(pred_k, target_k, visible, a["head_size"], a["box"], strict=True)
        ]

    for threshold in (0.5, 0.6):
        metric = metrics["MpiiPCKAccuracy"](thr=threshold)
        metric.process([], persons(a["pred_keypoints"], a["target_keypoints"], a["visible"]))
        answers[f"mmpose pckh@{threshold}"] = metric.compute_metrics(metric.results)["PCK"] / 100
    metric = metrics["JhmdbPCKAccuracy"](thr=0.2, norm_item=["bbox", "torso"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sample = [short_torso(a[name]) for name in ("pred_keypoints", "target_keypoints")]
        sample[0][0] = a["pred_keypoints"][0, :15]
        metric.process([], persons(*sample, a["visible"][:, :15]))
    found = metric.compute_metrics(metric.results)
    answers |= {"mmpose jhmdb pck": found["PCK"], "mmpose jhmdb tpck": found["tPCK"]}
    acc, average, _ = code("4D-Humans-pck")["keypoint_pck_accuracy"](
        a["pred_keypoints"], a["target_keypoints"], a["visible"] > 0, 0.05, np.full((len(pred), 2), 240.0)
    )
    answers |= {"4D-Humans pck per joint": acc, "4D-Humans pck": average}

    wham = code("WHAM")
    moving = a["pred_moving"], a["target_moving"]
    as_torch = [torch.from_numpy(x) for x in moving]
    answers["WHAM accel"] = wham["compute_error_accel"](moving[1], moving[0])
    visible = np.ones(len(moving[0]), bool)
    visible[[20, 21, 50]] = False
    answers["WHAM accel with frames hidden"] = wham["compute_error_accel"](moving[1], moving[0], visible)
    answers["WHAM jitter"] = wham["compute_jitter"](SimpleNamespace(joints=as_torch[0]))
    w, wa = [], []
    for first in range(0, len(moving[0]), 100):
        p, t = (x[first : first + 100] for x in as_torch)
        w.append(wham["compute_jpe"](t, wham["first_align_joints"](t, p)))
        wa.append(wham["compute_jpe"](t, wham["global_align_joints"](t, p)))
    answers |= {"WHAM w_mpjpe": 1000 * np.concatenate(w), "WHAM wa_mpjpe": 1000 * np.concatenate(wa)}
    answers["WHAM rte"] = 100 * wham["compute_rte"](as_torch[1][:, 0], as_torch[0][:, 0])
    bodies = []
    for name in ("target_feet", "pred_feet"):
        verts = torch.zeros(len(a[name]), 6890, 3)
        verts[:, [3216, 3387, 6617, 6787]] = torch.from_numpy(a[name])
        bodies.append(SimpleNamespace(vertices=verts))
    answers["WHAM foot sliding"] = (
        1000 * wham["compute_foot_sliding"](*bodies, np.ones(len(a["pred_feet"]), bool)).mean()
    )

    scaled = code("STRAPS-3DHumanShapePose")["scale_and_translation_transform_batch"](
        a["pred_verts"], a["target_verts"]
    )
    answers["STRAPS pve_t_sc"] = 1000 * np.linalg.norm(scaled - a["target_verts"], axis=-1).mean(1)

    revisions = {
        c: subprocess.run(
            ["git", "-C", str(folder / c), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for c in CHECKOUTS
    }

    def digits(value: Any) -> Any:
        return [digits(v) for v in value] if isinstance(value, list) else float(f"{value:.10g}")

    values = {name: digits(np.asarray(value, np.float64).tolist()) for name, value in sorted(answers.items())}
    OUT.write_text(json.dumps({"revisions": revisions, "answers": values}, indent=None, separators=(",", ":")) + "\n")
    print(f"{OUT}: {len(values)} answers")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
