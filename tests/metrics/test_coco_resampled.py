"""Average precision of resampled pictures: as if the pictures had been copied and the evaluator run again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from metrics.functional.coco import AP_NAMES, keypoint_ap
from metrics.functional.coco_resampled import resampled_ap


def people(seed: int = 0) -> dict[str, torch.Tensor]:
    """9 pictures of 0 to 4 persons of all sizes, detections with errors, doubles and false alarms in other orders."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(8), rng.integers(1, 5, 8))
    size = rng.uniform(30, 160, len(image))
    target = rng.uniform(0, 1, (len(image), 17, 2)) * size[:, None, None] + rng.uniform(0, 400, (len(image), 1, 2))
    visible = rng.integers(0, 3, (len(image), 17))
    visible[0] = 0  # nobody's joints: ignored
    rows = np.concatenate([np.arange(1, len(image)), rng.integers(1, len(image), 6)])
    noise = rng.normal(0, 1, (len(rows), 17, 2)) * (size[rows] * rng.uniform(0, 0.12, len(rows)))[:, None, None]
    alarms = rng.uniform(0, 400, (4, 17, 2))
    pred = np.concatenate([target[rows] + noise, alarms])
    return {
        "pred_DJ2": torch.from_numpy(pred),
        "score_D": torch.from_numpy(rng.permutation(len(pred)) / len(pred)),
        "pred_image_D": torch.from_numpy(np.concatenate([image[rows], [0, 3, 8, 8]])),
        "target_GJ2": torch.from_numpy(target),
        "visible_GJ": torch.from_numpy(visible),
        "area_G": torch.from_numpy(0.5 * size**2),
        "image_G": torch.from_numpy(image),
    }


def copied(data: dict[str, torch.Tensor], times: np.ndarray) -> dict[str, torch.Tensor]:
    """The set in which picture i is there times[i] times, each copy a picture of its own."""
    out: dict[str, list[Any]] = {key: [] for key in data}
    new = 0
    for picture, number in enumerate(times.tolist()):
        for _ in range(int(number)):
            for key, values in data.items():
                own = data["pred_image_D" if key.endswith(("D", "DJ2")) else "image_G"] == picture
                out[key].append(torch.full((int(own.sum()),), new) if "image" in key else values[own])
            new += 1
    return {key: torch.cat(parts) for key, parts in out.items()}


@pytest.mark.parametrize("seed", range(4))
def test_as_if_copied(seed: int) -> None:
    data = people(seed)
    seen: list[Any] = []
    plain = keypoint_ap(**data, watch=seen.append)
    rng = np.random.default_rng(seed)
    times = np.concatenate([np.ones((1, 9)), rng.multinomial(9, np.full(9, 1 / 9), 12)])
    found = resampled_ap(seen[0], times)
    assert found.shape == (13, len(AP_NAMES))
    for row, number in zip(found, times, strict=True):
        again = keypoint_ap(**copied(data, number))
        expected = [again[name] for name in AP_NAMES]
        assert 0 < expected[0] < 1
        got = np.where(np.isnan(row), -1, row)
        np.testing.assert_allclose(got, expected, atol=1e-12)
    np.testing.assert_allclose(np.where(np.isnan(found[0]), -1, found[0]), list(plain.values()), atol=1e-12)


def test_a_resample_without_anybody_is_no_number() -> None:
    data, seen = people(), []
    keypoint_ap(**data, watch=seen.append)
    times = np.zeros((1, 9))
    times[0, 8] = 3  # false alarms only
    assert np.isnan(resampled_ap(seen[0], times)).all()
