"""Conditions for other engines agree with the mesh, the depth map and the drawings ControlNets know."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from human.body import BodyOutput, load_body
from human.camera import make_intrinsics, project
from human.errors import PosesynError
from human.motion import load_motion_bank
from human.skeleton import COCO17, POSE32
from synth.conditions import (
    OWN_SLACK,
    Conditions,
    depth_picture,
    draw_conditions,
    heat_maps,
    joint_visibility,
    openpose_drawing,
    own_parts,
    own_thickness,
)
from synth.scene import sample_scene

SIZE = 160
BODY = load_body("free")


def facing(turn: float = 0.0, pose: torch.Tensor | None = None) -> tuple[BodyOutput, torch.Tensor]:
    """One upright person 4 m before the camera, turned about the vertical by ``turn`` radians."""
    orient = torch.tensor([[np.pi, 0.0, 0.0]])
    if turn:
        from scipy.spatial.transform import Rotation

        both = Rotation.from_rotvec([np.pi, 0, 0]) * Rotation.from_rotvec([0, turn, 0])
        orient = torch.tensor(both.as_rotvec()[None], dtype=torch.float32)
    with torch.no_grad():
        pose = torch.zeros(1, 23, 3) if pose is None else pose
        out = BODY(torch.zeros(1, 10), pose, orient, torch.tensor([[0.0, -0.2, 4.0]]))
    return out, make_intrinsics(torch.tensor([1.8 * SIZE]), SIZE)


def conditions(turn: float = 0.0, hidden: torch.Tensor | None = None) -> tuple[Conditions, BodyOutput]:
    out, k = facing(turn)
    return draw_conditions(BODY, out.vertices, out.joints, k, (SIZE, SIZE), hidden), out


@pytest.fixture(scope="module")
def scenes() -> tuple[Conditions, BodyOutput, torch.Tensor]:
    spec = sample_scene(range(12), load_motion_bank("free"), BODY, SIZE)
    with torch.no_grad():
        out = BODY(spec.betas, spec.body_pose, spec.global_orient, spec.transl)
    return draw_conditions(BODY, out.vertices, out.joints, spec.intrinsics, (SIZE, SIZE)), out, spec.intrinsics


def shown(name: str, seen: Conditions) -> bool:
    return bool(seen.visible[0, POSE32.index(name)])


def test_maps_are_one_another(scenes: tuple[Conditions, BodyOutput, torch.Tensor]) -> None:
    seen, out, _ = scenes
    assert torch.equal(seen.mask, seen.depth > 0)
    assert torch.equal(seen.mask, seen.parts > 0)
    length = seen.normals.norm(dim=-1)
    assert torch.allclose(length[seen.mask], torch.ones_like(length[seen.mask]), atol=1e-4)
    assert (length[~seen.mask] == 0).all()
    assert seen.parts.max() <= 24
    near, far = out.vertices[..., 2].amin(1), out.vertices[..., 2].amax(1)
    for b in range(len(seen)):
        covered = seen.depth[b][seen.mask[b]]
        assert covered.min() >= near[b] - 1e-3
        assert covered.max() <= far[b] + 1e-3
    # Nearly all normals face the camera; those that do not are at outlines, where vertex normals turn away.
    assert (seen.normals[..., 2][seen.mask] < 0.2).float().mean() > 0.97


def test_normals_are_the_depths_gradient() -> None:
    """Away from edges, the normal across neighbouring pixels' points agrees with the interpolated one."""
    seen, _ = conditions()
    _, k = facing()
    ys, xs = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    rays = torch.stack([(xs - k[0, 0, 2]) / k[0, 0, 0], (ys - k[0, 1, 2]) / k[0, 1, 1], torch.ones(SIZE, SIZE)], -1)
    points = rays * seen.depth[0][..., None]
    right, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    normal = torch.linalg.cross(down, right)
    normal = normal / normal.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    smooth = (right[..., 2].abs() < 0.02) & (down[..., 2].abs() < 0.02) & seen.mask[0, 1:-1, 1:-1]
    agree = (normal * seen.normals[0, 1:-1, 1:-1]).sum(-1)[smooth]
    assert smooth.sum() > 500
    assert agree.median() > 0.97


def test_mask_is_pytorch3ds() -> None:
    if importlib.util.find_spec("pytorch3d") is None:
        pytest.skip("PyTorch3D is not installed: masks were NOT compared with it")
    out, k = facing(0.6)
    ours, theirs = (
        draw_conditions(BODY, out.vertices, out.joints, k, (SIZE, SIZE), backend=name) for name in ("warp", "pytorch3d")
    )
    assert ours.mask.sum() > 1000
    # Snapping to 2^-14 px may decide a centre that lies on an outline otherwise.
    assert (ours.mask != theirs.mask).sum() <= 2
    both = ours.mask & theirs.mask
    assert (ours.depth - theirs.depth)[both].abs().median() < 1e-4
    assert (ours.parts == theirs.parts)[both].float().mean() > 0.99


def test_parts_lie_around_their_joints(scenes: tuple[Conditions, BodyOutput, torch.Tensor]) -> None:
    """The middle of a part's pixels is nearer to its own bone than to most joints."""
    seen, _ = conditions()
    for name in ("left_knee", "right_knee", "left_elbow", "right_elbow", "head", "left_ankle"):
        j = POSE32.index(name)
        ys, xs = (seen.parts[0] == 1 + j).nonzero(as_tuple=True)
        assert len(xs) > 10
        middle = torch.stack([xs.float().mean(), ys.float().mean()])
        distance = (seen.joints2d[0, :24] - middle).norm(dim=-1)
        assert j in distance.argsort()[:4].tolist(), name


def test_a_t_pose_shows_all_from_the_front_and_no_face_from_behind() -> None:
    front, _ = conditions(0.0)
    hidden = [n for j, n in enumerate(POSE32.joints) if not front.visible[0, j] and "ear" not in n]
    assert not hidden
    behind, _ = conditions(np.pi)
    for name in ("nose", "left_eye", "right_eye"):
        assert not shown(name, behind)
    for name in ("left_elbow", "right_wrist", "left_knee", "pelvis", "spine2", "neck", "right_hip", "left_ankle"):
        assert shown(name, behind), name


def test_from_the_side_the_far_limbs_are_hidden() -> None:
    side, _ = conditions(np.pi / 2)  # turned towards the picture's right: which side is near follows from depth
    _, out = conditions(np.pi / 2)
    left_near = out.joints[0, POSE32.index("left_hip"), 2] < out.joints[0, POSE32.index("right_hip"), 2]
    near, far = ("left", "right") if left_near else ("right", "left")
    assert shown(f"{near}_knee", side)
    assert shown(f"{near}_ankle", side)
    assert not shown(f"{far}_knee", side)
    assert not shown(f"{far}_elbow", side)
    assert shown(f"{near}_ear", side)
    assert not shown(f"{far}_ear", side)


def test_visibility_agrees_with_the_depth_map(scenes: tuple[Conditions, BodyOutput, torch.Tensor]) -> None:
    """Joint by joint, against a plain loop; and both answers occur often."""
    seen, out, _ = scenes
    thickness, own = own_thickness(BODY), own_parts()
    for b in range(len(seen)):
        for j in range(32):
            x, y = (round(float(v)) for v in seen.joints2d[b, j])
            if not (0 <= x < SIZE and 0 <= y < SIZE):
                assert not seen.visible[b, j]
                continue
            surface, part = float(seen.depth[b, y, x]), int(seen.parts[b, y, x])
            allowed = float(thickness[j]) * (OWN_SLACK if own[j, part] else 1.0)
            gap = float(out.joints[b, j, 2]) - surface
            if surface == 0 or abs(gap - allowed) > 1e-5:
                assert bool(seen.visible[b, j]) == (surface == 0 or gap <= allowed), (b, POSE32.joints[j])
    share = float(seen.visible.float().mean())
    assert 0.5 < share < 0.97


def test_a_wall_before_the_person_hides_and_one_behind_does_not() -> None:
    out, k = facing()
    thickness = own_thickness(BODY)
    inside = joint_visibility(out.joints, k, torch.full((1, SIZE, SIZE), 3.0), thickness)
    assert not inside.any()
    assert joint_visibility(out.joints, k, torch.full((1, SIZE, SIZE), 5.0), thickness).all()
    assert joint_visibility(out.joints, k, torch.zeros(1, SIZE, SIZE), thickness).all()


def test_objects_hide_joints_but_not_the_maps() -> None:
    hidden = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    hidden[:, SIZE // 2 :] = True
    plain, _ = conditions()
    behind, _ = conditions(hidden=hidden)
    assert torch.equal(plain.depth, behind.depth)
    below = plain.joints2d[0, :, 1].round() >= SIZE // 2
    assert below.sum() > 3
    assert not behind.visible[0][below].any()
    assert torch.equal(behind.visible[0][~below], plain.visible[0][~below])
    low = plain.coco2d[0, :, 1].round() >= SIZE // 2
    assert not behind.coco_visible[0][low].any()


def test_thickness_is_plausible_and_measured_once() -> None:
    thickness = dict(zip(POSE32.joints, own_thickness(BODY).tolist(), strict=True))
    assert all(0.02 < v < 0.201 for v in thickness.values())
    assert thickness["left_wrist"] < thickness["left_knee"] < thickness["left_hip"]
    for name, value in thickness.items():
        if name.startswith("left_"):
            assert value == pytest.approx(thickness["right_" + name[5:]], abs=0.015)
    assert own_thickness(BODY) is own_thickness(BODY)


def test_coco_joints_are_the_bodys_own_regressor() -> None:
    seen, out = conditions()
    _, k = facing()
    assert torch.allclose(seen.coco2d, project(BODY.regress(out.vertices, "coco17"), k), atol=1e-4)


# --- pictures -----------------------------------------------------------------------------------------------------


def test_heat_maps_peak_at_the_joint() -> None:
    joints = torch.tensor([[[10.0, 20.0], [30.5, 5.0], [-50.0, 3.0], [float("nan"), 4.0]]])
    maps = heat_maps(joints, torch.tensor([[1.0, 0.5, 1.0, 1.0]]), (40, 48), sigma=2.0)
    assert maps.shape == (1, 4, 40, 48)
    assert maps[0, 0].argmax() == 20 * 48 + 10
    assert float(maps[0, 0, 20, 10]) == 1.0
    assert float(maps[0, 0, 20, 12]) == pytest.approx(np.exp(-0.5), rel=1e-5)
    assert float(maps[0, 1].max()) == pytest.approx(0.5 * np.exp(-0.25 / 8), rel=1e-5)
    assert not maps[0, 2:].any()
    assert float(maps[0, 0].sum()) == pytest.approx(2 * np.pi * 4, rel=0.02)
    with pytest.raises(PosesynError, match="sigma"):
        heat_maps(joints, torch.ones(1, 4), (4, 4), sigma=0.0)


def test_depth_pictures_are_bright_near() -> None:
    depth = torch.zeros(2, 4, 4)
    depth[0, 0] = torch.tensor([2.0, 3.0, 4.0, 0.0])
    picture = depth_picture(depth)
    assert picture[0, 0, 0] == 255
    assert picture[0, 0, 0] > picture[0, 0, 1] > picture[0, 0, 2] == 64
    assert picture[0, 0, 3] == 0
    assert not picture[1].any()
    depth[1] = 2.5  # a flat body is one level, not a division by zero
    assert len(depth_picture(depth)[1].unique()) == 1


def test_openpose_drawing_has_the_known_colours_in_the_known_places() -> None:
    rng = np.random.default_rng(0)
    joints = torch.from_numpy(rng.uniform(40, 470, (1, 17, 2)))
    picture = openpose_drawing(joints, torch.ones(1, 17), (512, 512))[0]
    # OpenPose COCO-18: right shoulder is joint 2, colour (255, 170, 0); left ankle joint 13, (85, 0, 255).
    # Joints are drawn over limbs, later ones over earlier ones; these two are far from all others here.
    for name, colour in (("right_shoulder", (255, 170, 0)), ("left_ankle", (85, 0, 255)), ("left_ear", (255, 0, 85))):
        at = joints[0, COCO17.index(name)]
        if (joints[0] - at).norm(dim=-1).sort()[0][1] > 10:
            assert tuple(picture[int(at[1]), int(at[0])].tolist()) == colour
    alone = torch.zeros(1, 17)
    alone[0, [COCO17.index("right_elbow"), COCO17.index("right_wrist")]] = 1
    limb = openpose_drawing(joints, alone, (512, 512))[0]
    a, b = (joints[0, COCO17.index(n)] for n in ("right_elbow", "right_wrist"))
    middle = (a + b) / 2
    # Limb 3-4 is the fourth of the list: (255, 255, 0) at 60 %.
    assert tuple(limb[int(middle[1]), int(middle[0])].tolist()) == (153, 153, 0)
    drawn = limb.any(-1).sum()
    length = float((a - b).norm())
    assert 0.7 < float(drawn) / (np.pi * length / 2 * 4 + 2 * 50) < 1.5, "ellipses of half width 4 and two dots"
    assert not openpose_drawing(joints, torch.zeros(1, 17), (64, 64)).any()
    wild = torch.full((1, 17, 2), float("nan"))
    wild[0, 5:] = 1e9
    assert not openpose_drawing(wild, torch.ones(1, 17), (64, 64)).any()


def test_wrong_mesh_is_refused() -> None:
    out, k = facing()
    with pytest.raises(PosesynError, match="this body needs"):
        draw_conditions(BODY, out.vertices[:, :100], out.joints, k, (SIZE, SIZE))
