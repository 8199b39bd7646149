"""SPIN's segmentation figures on LSP: against its formulas written out pixel by pixel, and wrong where it must be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from datamodules.readers.lsp import LspReader
from human.body import load_body
from human.camera import guess_intrinsics
from human.errors import PosesynError
from human.part_labels import PART_OF_JOINT, PARTS, draw_parts
from human.raster import rasterise
from human.skeleton import SMPL24
from metrics.case import Case
from metrics.evaluation import Evaluation, evaluate
from metrics.protocols import PROTOCOLS
from metrics.truth import Predictions, Truth
from tests.datasets import lsp
from tests.datasets.people import Array, People, make_people

PROTOCOL = PROTOCOLS.get("lsp/spin")
FIRST, FOCAL, SIDE = 1001, 5000.0, 224


# -- SPIN's drawing and figures, as its files have them --------------------------------------------------------------
def spin_crop(joints_J2: Array) -> tuple[Array, Array]:
    """Corners of the crop: datasets/preprocess/lsp_dataset.py, and utils/imutils.py (transform, inverted)."""
    low, high = joints_J2.min(0), joints_J2.max(0)
    centre, side = (low + high) / 2, 1.2 * (high - low).max()
    matrix = np.array([[SIDE / side, 0, SIDE * (0.5 - centre[0] / side)],
                       [0, SIDE / side, SIDE * (0.5 - centre[1] / side)], [0, 0, 1]])  # fmt: skip
    ends = [np.linalg.inv(matrix) @ [corner, corner, 1] for corner in (0, SIDE)]
    return ends[0][:2].astype(int), ends[1][:2].astype(int)


def spin_uncrop(image: Array, first: Array, last: Array, width: int, height: int) -> Array:
    out = np.zeros((height, width), image.dtype)
    for y in range(max(0, first[1]), min(height, last[1])):
        for x in range(max(0, first[0]), min(width, last[0])):
            row = int((y - first[1] + 0.5) * SIDE / (last[1] - first[1]))
            out[y, x] = image[row, int((x - first[0] + 0.5) * SIDE / (last[0] - first[0]))]
    return out


def spin_figures(pairs: list[tuple[Array, Array, Array, Array]]) -> dict[str, float]:
    """eval.py: of (predicted mask, predicted parts, true mask, true parts) of each picture; %."""
    counts = {"fg": np.zeros((3, 2)), "parts": np.zeros((3, 7))}
    right, pixels = {"fg": 0, "parts": 0}, 0
    for mask, parts, true_mask, true_parts in pairs:
        pixels += mask.size
        for name, said, true, classes in (("fg", mask, true_mask, 2), ("parts", parts, true_parts, 7)):
            for c in range(classes):
                is_true, is_said = true == c, said == c
                is_said[true == 255] = False
                counts[name][:, c] += (is_true & is_said).sum(), (~is_true & is_said).sum(), (is_true & ~is_said).sum()
            right[name] += int((np.where(true == 255, 0, true) == said).sum())
    out = {}
    for name in ("fg", "parts"):
        tp, fp, fn = counts[name]
        out[f"{name}_accuracy"] = 100 * right[name] / pixels
        out[f"{name}_f1"] = 100 * float((2 * tp / (2 * tp + fp + fn)).mean())
    return out


@dataclass(frozen=True)
class Scene:
    people: People
    truth: Truth
    drawn: list[tuple[Array, Array]]  # mask and parts of the people themselves


def in_spins_crop(people: People, joints: Array, shift: Array | None = None) -> list[tuple[Array, Array]]:
    """The first person of each frame, by SPIN's weak-perspective camera (s, tx, ty); ``shift`` (2,) in metres."""
    out, body = [], load_body("free")
    for f in range(people.frames):
        first, last = spin_crop(joints[f])
        pelvis = people.joints(0, 0)[f, 0]
        pixel = people.project(0, pelvis[None, None])[0, 0] + 0.5  # from the pixel's corner
        size = last - first
        metre = people.intrinsics[0, 0, 0] / pelvis[2] * SIDE / size.mean()  # crop px
        s = 2 * metre / SIDE
        place = ((pixel - first) * SIDE / size - SIDE / 2) / metre
        t = np.array([*place, 2 * FOCAL / (SIDE * s)])
        if shift is not None:
            t[:2] += shift
        vertices = torch.from_numpy(people.vertices(0, 0)[f] - pelvis + t).float()[None]
        # neural_renderer looks through the middle of pixel i at i + 0.5.
        camera = torch.tensor([[[FOCAL, 0, SIDE / 2 - 0.5], [0, FOCAL, SIDE / 2 - 0.5], [0, 0, 1]]])
        shown = rasterise(vertices, body.faces, camera, (SIDE, SIDE))
        width, height = people.size
        mask, parts = shown.mask[0].numpy(), draw_parts(shown, body)[0].numpy()
        out.append(tuple(spin_uncrop(m, first, last, width, height) for m in (mask, parts)))
    return out  # type: ignore[return-value]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    people, root = make_people(("neutral",), frames=3, size=(150, 190), kind="free"), tmp_path_factory.mktemp("lsp")
    people = replace(people, intrinsics=guess_intrinsics(190, 150).double().numpy()[None])
    joints = lsp.write_lsp(root, people, FIRST)
    drawn = in_spins_crop(people, joints)
    parts = [part.copy() for _, part in drawn]
    parts[1][:9, :30] = 255  # nobody said what this corner is
    lsp.write_masks(root, [mask for mask, _ in drawn], parts, FIRST)
    return Scene(people, LspReader(root, "test", masks=True, cache=root / "cache").truth(), drawn)


def said(scene: Scene) -> Predictions:
    people = scene.people
    pose = np.concatenate([people.camera_orient(0, 0)[:, None], people.body_pose[0]], 1)
    betas = np.repeat(people.betas, people.frames, 0)
    return Predictions(list(scene.truth.ids), body="free", pose=pose, betas=betas, transl=people.camera_transl(0, 0))


def figures(out: Evaluation) -> dict[str, float]:
    return {f.metric: f.value for f in out.figures(2)}


def test_the_truth_is_perfect(scene: Scene) -> None:
    found = figures(evaluate(PROTOCOL, said(scene), scene.truth))
    assert list(found) == list(PROTOCOL.metrics)
    assert min(found.values()) > 99.9  # a pixel at the border may fall the other way in 32 bits
    assert all(mask.any() and len(np.unique(parts)) >= 6 for mask, parts in scene.drawn)


def test_against_spins_formulas(scene: Scene) -> None:
    """A body that stands 6 cm aside, drawn and counted in both ways."""
    people, shift = scene.people, np.array([0.06, -0.04])
    joints = scene.truth["native2d"][..., :2].astype(np.float64)
    moved = said(scene)
    assert moved.transl is not None
    # Aside by so much at the pelvis' depth, as SPIN's camera moves.
    moved = replace(moved, transl=moved.transl + np.array([*shift, 0]))
    true = [(mask, part.copy()) for mask, part in scene.drawn]
    true[1][1][:9, :30] = 255
    masks, parts = Case(PROTOCOL, scene.truth, moved).segmented
    expected = spin_figures([(m, p, *t) for m, p, t in zip(masks, parts, true, strict=True)])
    found = figures(evaluate(PROTOCOL, moved, scene.truth))
    assert found == pytest.approx(expected, rel=1e-9)
    assert 30 < max(found.values()) < 97
    for mask, part, other in zip(masks, parts, in_spins_crop(people, joints, shift), strict=True):
        assert (mask == other[0]).mean() > 0.995
        assert (part == other[1]).mean() > 0.995


def test_mistakes_show(scene: Scene) -> None:
    right = said(scene)
    assert right.pose is not None
    turned = right.pose.copy()
    turned[:, 0] = [0.1, 2.0, 0.3]
    swap = [SMPL24.index(n.replace("left", "R").replace("right", "left").replace("R", "right")) for n in SMPL24.joints]
    mirrored = right.pose[:, swap] * [1, -1, -1]
    for wrong in (turned, mirrored):
        found = figures(evaluate(PROTOCOL, replace(right, pose=wrong), scene.truth))
        assert found["parts_f1"] < 90


def test_nobody_predicted_is_missing(scene: Scene) -> None:
    out = evaluate(PROTOCOL, said(scene).rows([0, 1]), scene.truth)
    assert {f.missing for f in out.figures(2)} == {1}
    assert {f.count for f in out.figures(2)} == {2}
    out = evaluate(PROTOCOL, replace(said(scene), transl=None), scene.truth)
    assert not out.figures(2)
    assert "where their bodies stand" in out.notes[0]


def test_parts_of_joints() -> None:
    assert [PARTS[p - 1] for p in PART_OF_JOINT[:4]] == ["trunk", "left_leg", "right_leg", "trunk"]
    assert PARTS[PART_OF_JOINT[SMPL24.index("neck")] - 1] == "trunk"
    assert PARTS[PART_OF_JOINT[SMPL24.index("left_collar")] - 1] == "trunk"
    assert PARTS[PART_OF_JOINT[SMPL24.index("right_hand")] - 1] == "right_arm"


def test_smpls_parts_are_the_users_files(scene: Scene, body_files: Path) -> None:
    """Without SPIN's files: foreground figures, and one note that names them; with them: what they say."""
    smpl = replace(said(scene), body="smpl")
    out = evaluate(PROTOCOL, smpl, scene.truth)
    assert set(figures(out)) == {"fg_accuracy", "fg_f1"}
    assert any("vertex_texture.npy and cube_parts.npy" in note and "fetch_data.sh" in note for note in out.notes)
    faces = load_body("smpl").faces
    # A triangle's corners 000, 100, 010, 001 of its little cube are its vertices' colours.
    colours = np.linspace(0.005, 0.985, len(faces))
    texture = np.repeat(colours[None, :, None, None, None, None], 2, 2).repeat(2, 3).repeat(2, 4).repeat(3, 5)
    table = np.zeros((100, 100, 100))
    table[np.arange(100), np.arange(100), np.arange(100)] = 1 + np.arange(100) % 6
    files = body_files / "vertex_texture.npy", body_files / "cube_parts.npy"
    try:
        np.save(files[0], texture)
        np.save(files[1], table)
        assert set(figures(evaluate(PROTOCOL, smpl, scene.truth))) == set(PROTOCOL.metrics)
        camera = torch.tensor([[[300.0, 0, 32], [0, 300, 32], [0, 0, 1]]])
        body = load_body("smpl")
        shown = rasterise((body.v_template + torch.tensor([0.0, 0.2, 9.0]))[None], body.faces, camera, (64, 64))
        parts, face = draw_parts(shown, body)[0], shown.face[0]
        expected = 1 + np.floor(100 * colours[face[face >= 0]].astype(np.float32)).astype(int) % 6
        assert (parts[face < 0] == 0).all()
        assert (parts[face >= 0].numpy() == expected).mean() > 0.99  # at a step of the table rounding decides
        np.save(files[1], table + 9)
        with pytest.raises(PosesynError, match=r"cube_parts\.npy is no cube"):
            draw_parts(shown, body)
        files[0].write_bytes(b"junk")
        with pytest.raises(PosesynError, match=r"vertex_texture\.npy cannot be read"):
            draw_parts(shown, body)
    finally:
        for file in files:
            file.unlink(missing_ok=True)


def test_ugly_masks(scene: Scene, tmp_path: Path) -> None:
    lsp.write_lsp(tmp_path, scene.people, FIRST)

    def make() -> LspReader:
        return LspReader(tmp_path, "test", masks=True, cache=tmp_path / "cache")

    with pytest.raises(PosesynError, match=r"upi-s1h\.zip"):
        make()
    folder = lsp.write_masks(tmp_path, *map(list, zip(*scene.drawn, strict=True)), FIRST)  # type: ignore[arg-type]
    assert len(make().index) == 3
    assert "parts" not in LspReader(tmp_path, "test", cache=tmp_path / "cache").index.extras
    file = folder / f"im{FIRST}_part_segmentation.png"
    whole = file.read_bytes()
    wrong = {"other values": np.full((190, 150), 9, np.uint8), "another size": np.zeros((9, 9), np.uint8)}
    contents = {"restore it": whole[:50], **{k: cv2.imencode(".png", v)[1].tobytes() for k, v in wrong.items()}}
    for reason, content in contents.items():
        file.write_bytes(content)
        with pytest.raises(PosesynError, match=f"{file.name}.*{reason}"):
            make()
    file.unlink()
    with pytest.raises(PosesynError, match=f"{file.name}: there is no such file"):
        make()
