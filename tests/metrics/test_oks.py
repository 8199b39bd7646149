"""OKS and average precision: against COCO's own OKS, a slow reference of the rest, and known cases."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from human.errors import PosesynError
from metrics import KeypointAP
from metrics.functional import AP_NAMES, COCO_SIGMAS, keypoint_ap, oks

Scene = dict[str, Tensor]
DETECTION = ("pred_DJ2", "score_D", "pred_image_D")


def scene(seed: int = 0, pictures: int = 12) -> Scene:
    """Persons of many sizes, some not labelled, some crowds; detections good, bad and doubled."""
    rng = np.random.default_rng(seed)
    image = np.sort(rng.integers(pictures, size=40))
    side = rng.uniform(20, 200, 40)
    target = 300 * rng.random((40, 1, 2)) + side[:, None, None] * rng.random((40, 17, 2))
    visible = rng.integers(0, 3, (40, 17))
    visible[::9] = 0
    pick = rng.permutation(np.repeat(np.arange(40), 2))[:60]
    noise = side[pick, None, None] * 0.15 * rng.random((60, 1, 1)) * rng.normal(size=(60, 17, 2))
    values = {
        "pred_DJ2": target[pick] + noise,
        "score_D": rng.random(60),
        "pred_image_D": image[pick],
        "target_GJ2": target,
        "visible_GJ": visible,
        "area_G": 0.6 * side**2,
        "image_G": image,
        "crowd_G": (rng.random(40) < 0.1).astype(np.int64),
    }
    return {name: torch.from_numpy(value) for name, value in values.items()}


def only_labelled(s: Scene) -> Scene:
    """Without crowds and persons without labels, for which COCO has rules of its own."""
    keep = (s["visible_GJ"] > 0).any(-1) & (s["crowd_G"] == 0)
    return {name: value if name in DETECTION else value[keep] for name, value in s.items()}


def ap_reference(s: Scene, threshold: float) -> tuple[float, float]:
    """AP and recall at one OKS: greedy by score within pictures, precision made falling, 101 recalls."""
    order = torch.argsort(s["score_D"], descending=True).tolist()
    free = set(range(len(s["area_G"])))
    right = []
    for d in order:
        best, found = -1, threshold
        for g in [g for g in free if s["image_G"][g] == s["pred_image_D"][d]]:
            one = [s["pred_DJ2"][d][None], s["target_GJ2"][g][None], s["area_G"][g][None], s["visible_GJ"][g][None]]
            similarity = oks(*one).item()
            if similarity >= found:
                best, found = g, similarity
        free.discard(best)
        right.append(best >= 0)
    hits = np.cumsum(right)
    recall, precision = hits / len(s["area_G"]), hits / np.arange(1, len(right) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = [precision[recall >= r][0] if (recall >= r).any() else 0.0 for r in np.linspace(0, 1, 101)]
    return float(np.mean(at)), float(recall[-1])


def test_average_precision_against_a_slow_reference() -> None:
    s = only_labelled(scene())
    found = keypoint_ap(**s)
    each = [ap_reference(s, t) for t in np.arange(0.5, 0.96, 0.05).round(2)]
    assert found["AP"] == pytest.approx(np.mean([ap for ap, _ in each]), abs=1e-9)
    assert found["AR"] == pytest.approx(np.mean([ar for _, ar in each]), abs=1e-9)
    assert (found["AP50"], found["AR50"]) == pytest.approx(each[0], abs=1e-9)
    assert (found["AP75"], found["AR75"]) == pytest.approx(each[5], abs=1e-9)
    assert 0.05 < found["AP"] < 0.95


def test_oks_is_cocos() -> None:
    s = only_labelled(scene())
    pick = torch.arange(len(s["area_G"]))
    pred = s["target_GJ2"] + 3 * torch.randn(s["target_GJ2"].shape, generator=torch.Generator().manual_seed(0))
    theirs = COCOeval(iouType="keypoints")
    theirs.params.maxDets = [20]
    ours = oks(pred, s["target_GJ2"], s["area_G"], s["visible_GJ"])
    for i in pick.tolist():
        flat = np.concatenate([s["target_GJ2"][i].numpy(), s["visible_GJ"][i, :, None].numpy()], 1).reshape(-1)
        guess = np.concatenate([pred[i].numpy(), np.ones((17, 1))], 1).reshape(-1)
        truth = {"keypoints": flat, "area": s["area_G"][i].item(), "bbox": [0, 0, 1, 1]}
        theirs._gts, theirs._dts = {(1, 1): [truth]}, {(1, 1): [{"keypoints": guess, "score": 1.0}]}
        assert ours[i].item() == pytest.approx(theirs.computeOks(1, 1)[0, 0], rel=1e-9)


def test_crowds_and_persons_without_labels_neither_help_nor_harm() -> None:
    s = scene(1)
    ignored = ((s["visible_GJ"] == 0).all(-1) | (s["crowd_G"] > 0)).nonzero()[:, 0]
    assert len(ignored) > 3
    without = only_labelled(s)
    perfect = {"pred_DJ2": without["target_GJ2"], "score_D": torch.ones(len(without["area_G"]))}
    perfect["pred_image_D"] = without["image_G"]
    found = keypoint_ap(**{**s, **perfect})
    assert found["AP"] == pytest.approx(1)
    # Detections right on the ignored persons are forgiven, those far from everybody are not.
    extra = {"pred_DJ2": s["target_GJ2"][ignored], "score_D": torch.full((len(ignored),), 2.0)}
    extra["pred_image_D"] = s["image_G"][ignored]
    more = {name: torch.cat([perfect[name], extra[name].to(perfect[name].dtype)]) for name in DETECTION}
    seen = (s["crowd_G"][ignored] > 0) & (s["visible_GJ"][ignored] > 0).any(-1)
    assert seen.any()
    crowds = {name: torch.cat([perfect[name], extra[name][seen].to(perfect[name].dtype)]) for name in DETECTION}
    assert keypoint_ap(**{**s, **crowds})["AP"] == pytest.approx(1)
    far = {**more, "pred_DJ2": more["pred_DJ2"].clone()}
    far["pred_DJ2"][len(perfect["score_D"]) :] += 5000
    assert keypoint_ap(**{**s, **far})["AP"] < 0.99


def test_sizes_and_nothing_to_find() -> None:
    s = only_labelled(scene())
    s["area_G"] = torch.full_like(s["area_G"], 50.0**2)
    found = keypoint_ap(**s)
    assert found["AP_L"] == found["AR_L"] == -1
    assert found["AP_M"] == pytest.approx(found["AP"], abs=0.2)
    nobody = {name: value[:0] for name, value in s.items() if name not in DETECTION}
    assert set(keypoint_ap(**{**s, **nobody}).values()) == {-1.0}
    nothing = keypoint_ap(**{name: value[:0] if name in DETECTION else value for name, value in s.items()})
    assert (nothing["AP"], nothing["AR_M"], nothing["AP_L"]) == (0, 0, -1)
    assert tuple(nothing) == AP_NAMES


def test_detections_that_are_not_finite_are_left_out_and_counted() -> None:
    s = only_labelled(scene())
    keep = torch.arange(60) != 7
    broken = {**s, "pred_DJ2": s["pred_DJ2"].clone()}
    broken["pred_DJ2"][7, 3] = torch.nan
    metric = KeypointAP()
    metric.update(**broken)
    value = metric.compute()
    assert metric.invalid == 1
    expected = keypoint_ap(**{name: v[keep] if name in DETECTION else v for name, v in s.items()})
    assert {name: v.item() for name, v in value.items()} == pytest.approx(expected)
    metric.reset()
    assert metric.invalid == 0
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert metric.compute()["AP"].isnan()


def parts(s: Scene, rank: int) -> list[Scene]:
    """This rank's half of the pictures, in two updates."""
    out = []
    for half in (0, 1):
        pick = {name: s[name] % 4 == 2 * half + rank for name in ("image_G", "pred_image_D")}
        out.append({n: v[pick["pred_image_D" if n in DETECTION else "image_G"]] for n, v in s.items()})
    return out


def _rank(rank: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    try:
        s = scene()
        metric = KeypointAP()
        for part in parts(s, rank):
            metric.update(**{name: v.float() if v.is_floating_point() else v for name, v in part.items()})
        rounded = {name: v.float() if v.is_floating_point() else v for name, v in s.items()}
        found = {name: v.item() for name, v in metric.compute().items()}
        assert found == pytest.approx(keypoint_ap(**rounded), abs=1e-12)
        alone = KeypointAP()
        if rank == 0:
            alone.update(**s)
        found = {name: v.item() for name, v in alone.compute().items()}
        assert found == pytest.approx(keypoint_ap(**s), abs=1e-12)
        Path(folder, f"rank{rank}").touch()
    finally:
        torch.distributed.destroy_process_group()


def test_two_ranks(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_rank, args=(port, str(tmp_path)), nprocs=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rank0", "rank1"]


def test_user_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene()
    with pytest.raises(PosesynError, match=r"annotations must be \(40, 17, 2\)"):
        keypoint_ap(**{**s, "target_GJ2": s["target_GJ2"][:, :3]})
    with pytest.raises(PosesynError, match="one area per person and one sigma per joint"):
        oks(torch.zeros(2, 17, 2), torch.zeros(2, 17, 2), torch.ones(2), sigmas=COCO_SIGMAS[:5])
    with pytest.raises(PosesynError, match=r"OKS needs two \(B,J,2\)"):
        oks(torch.zeros(2, 17, 3), torch.zeros(2, 17, 3), torch.ones(2))
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.coco", None)
    with pytest.raises(PosesynError, match=r"pip install 'posesyn\[bench\]'"):
        keypoint_ap(**s)
