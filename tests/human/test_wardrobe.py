"""The baked shells: they are the free body's, they follow its betas, and they enclose it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from human.body import BodyModel, load_body
from human.errors import PosesynError
from human.raster import vertex_normals
from human.wardrobe import WARDROBE_PATH, Shell, load_wardrobe


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body()


@pytest.fixture(scope="module")
def wardrobe() -> dict[str, Shell]:
    return load_wardrobe()


def shaped(template: np.ndarray, shapedirs: np.ndarray, betas: np.ndarray) -> np.ndarray:
    return template + shapedirs @ betas


def stand_off(shell: Shell, body: BodyModel, betas: np.ndarray) -> np.ndarray:
    """(V,) metres of each shell vertex in front of the skin it is bound to."""
    skin = shaped(body.v_template.numpy(), body.shapedirs.numpy(), betas)
    normals = vertex_normals(torch.from_numpy(skin).float()[None], body.faces)[0].numpy()
    corners = body.faces.numpy()[shell.bind_face]
    at = (skin[corners] * shell.bind_bary[..., None]).sum(1)
    up = (normals[corners] * shell.bind_bary[..., None]).sum(1)
    return ((shaped(shell.v_template, shell.shapedirs, betas) - at) * up).sum(1)


def test_small_and_complete(wardrobe: dict[str, Shell]) -> None:
    assert set(wardrobe) == {"tights", "skirt", "hair"}
    assert WARDROBE_PATH.stat().st_size < 400_000
    for shell in wardrobe.values():
        count = len(shell.v_template)
        assert np.unique(shell.faces).tolist() == list(range(count))
        assert np.allclose(shell.weight.sum(1), 1, atol=1e-6)
        assert np.allclose(shell.bind_bary.sum(1), 1, atol=1e-6)
        assert shell.weight_joint.max() < 24


@pytest.mark.parametrize("name", ["tights", "skirt"])
def test_no_cracks_and_outward(wardrobe: dict[str, Shell], name: str) -> None:
    shell = wardrobe[name]
    edges = np.concatenate([shell.faces[:, [0, 1]], shell.faces[:, [1, 2]], shell.faces[:, [2, 0]]])
    _, directed = np.unique(edges, axis=0, return_counts=True)
    assert directed.max() == 1  # neighbours agree on their winding, and no edge has three faces
    ends = np.concatenate([edges, edges[:, ::-1]])
    _, uses = np.unique(ends, axis=0, return_counts=True)
    assert (uses == 1).mean() < 0.05  # the openings only
    corners = shell.v_template[shell.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    if name == "skirt":
        middle = corners.mean(1) * [1, 0, 1]
        assert ((middle * normal).sum(1) > 0).mean() > 0.97
    else:  # a closed suit but for its openings: positive signed volume
        assert (corners[:, 0] * normal).sum() / 6 > 0.03


@pytest.mark.parametrize("beta", [None, *range(10)])
@pytest.mark.parametrize("sign", [-3.0, 3.0])
def test_shells_follow_the_shape(body: BodyModel, wardrobe: dict[str, Shell], beta: int | None, sign: float) -> None:
    betas = np.zeros(10, np.float32)
    betas[slice(0, 4) if beta is None else beta] = sign * (0.6 if beta is None else 1.0)
    gap = stand_off(wardrobe["tights"], body, betas)
    assert np.quantile(gap, 0.01) > -0.006, "the tights sink into the skin"
    assert np.median(gap) > 0.001
    assert np.quantile(gap, 0.99) < 0.04, "the tights float off the skin"
    # Skin and shell move together, but for hollows that cloth spans.
    shell = wardrobe["tights"]
    moved = shell.shapedirs @ betas
    under = (body.shapedirs.numpy() @ betas)[body.faces.numpy()[shell.bind_face]]
    difference = np.linalg.norm(moved - (under * shell.bind_bary[..., None]).sum(1), axis=1)
    assert difference.mean() < max(0.009, 0.1 * float(np.linalg.norm(moved, axis=1).mean()))


def test_shells_are_mirror_images(wardrobe: dict[str, Shell]) -> None:
    from scipy.spatial import cKDTree

    for name, shell in wardrobe.items():
        distance, _ = cKDTree(shell.v_template).query(shell.v_template * [-1, 1, 1])
        assert np.quantile(distance, 0.95) < 2e-3, name


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(PosesynError, match="no wardrobe at"):
        load_wardrobe(tmp_path / "absent.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(PosesynError, match="holds no shells"):
        load_wardrobe(tmp_path / "other.npz")
