"""Fits: back to the joints, vertices and pictures that known bodies give; what happens when data are missing or bad."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from human.body import BodyModel, load_body
from human.camera import make_intrinsics, project
from human.errors import PosesynError
from human.fit import WEIGHTS_2D, WEIGHTS_3D, FitResult, Weights, fit_joints2d, fit_joints3d, fit_vertices
from human.fit_points import rotation_and_left_jacobian, skeleton_points, vertex_points
from human.fit_prior import bank_prior
from human.fit_solver import Problem, Solver, State, Target2D, Target3D
from human.joint_limits import JOINT_LIMITS
from human.motion import load_motion_bank
from human.rotations import geodesic_degrees, rotation_about, rotvec_to_matrix
from human.skeleton import POSE32
from metrics.functional import pa_mpjpe


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("free")


@pytest.fixture(scope="module")
def people() -> dict[str, Tensor]:
    """48 poses of the motion bank, loosened, on different bodies, anywhere and turned any way."""
    rng = torch.Generator().manual_seed(3)
    bank = load_motion_bank()
    pose, root = bank.sample(torch.randperm(len(bank), generator=rng)[:48].numpy())
    turn = rotation_about("y", 2 * math.pi * torch.rand(48, generator=rng)) @ rotvec_to_matrix(torch.from_numpy(root))
    return {
        "betas": torch.randn(48, 10, generator=rng),
        "body_pose": torch.from_numpy(pose) + 0.1 * torch.randn(48, 23, 3, generator=rng),
        "global_orient": turn,
        "transl": torch.randn(48, 3, generator=rng),
    }


@pytest.fixture(scope="module")
def joints(body: BodyModel, people: dict[str, Tensor]) -> Tensor:
    return body.joints(**people)


def error_mm(body: BodyModel, result: FitResult, joints: Tensor) -> Tensor:
    return 1000 * (result.joints(body)[:, : joints.shape[1]] - joints).norm(dim=-1)


# --- derivatives --------------------------------------------------------------------------------------------------


def test_left_jacobian() -> None:
    rng = torch.Generator().manual_seed(0)
    vector = torch.randn(20, 3, generator=rng, dtype=torch.float64)
    vector[0] = 0
    vector[1] *= 1e-5
    rotation, jacobian = rotation_and_left_jacobian(vector)
    torch.testing.assert_close(rotation, rotvec_to_matrix(vector), atol=1e-7, rtol=0)
    step = 1e-6 * torch.randn(20, 3, generator=rng, dtype=torch.float64)
    moved = rotvec_to_matrix((jacobian @ step[..., None])[..., 0]) @ rotation
    torch.testing.assert_close(moved, rotvec_to_matrix(vector + step), atol=1e-9, rtol=0)


@pytest.mark.parametrize("skeleton", ["pose32", "lsp14", "vertices"])
def test_points_are_the_bodys_own(body: BodyModel, people: dict[str, Tensor], skeleton: str) -> None:
    numbers = torch.arange(0, len(body.v_template), 997)
    points = vertex_points(body, numbers) if skeleton == "vertices" else skeleton_points(body, skeleton)
    some = {name: value[:4] for name, value in people.items()}
    out = body(**some)
    wanted = {"vertices": out.vertices[:, numbers], "pose32": out.joints}.get(skeleton)
    if wanted is None:
        wanted = body.regress(out.vertices, skeleton)
    state = as_state(some)
    found = points.points(points.pose(state.rotvec, state.transl, state.betas, per_beta=False))
    assert (found - wanted).abs().max() < 2e-5


def as_state(people: dict[str, Tensor]) -> State:
    from human.rotations import matrix_to_rotvec

    root = matrix_to_rotvec(people["global_orient"])
    return State(torch.cat([root[:, None], people["body_pose"]], 1), people["transl"], people["betas"])


@pytest.mark.parametrize("kind", ["3d", "2d"])
@pytest.mark.parametrize("outlier", [None, 0.1])
def test_gradient_of_the_energy(body: BodyModel, people: dict[str, Tensor], kind: str, outlier: float | None) -> None:
    """The normal equations' gradient is the energy's, in float64, for every kind of unknown and every term."""
    exact = load_body("free").double()
    points = skeleton_points(exact, "pose32")
    state = as_state({name: value[:2].double() for name, value in people.items()})
    state = replace(state, transl=state.transl + torch.tensor([0.0, 0.0, 5.0]))
    rng = torch.Generator().manual_seed(0)
    place = points.points(points.pose(state.rotvec, state.transl, state.betas, per_beta=False))
    conf = torch.rand(2, 32, generator=rng, dtype=torch.float64)
    away = place + 0.1 * torch.randn(place.shape, generator=rng, dtype=torch.float64)
    camera = make_intrinsics(torch.full((2,), 500.0, dtype=torch.float64), 256)
    target = (
        Target3D(away, conf)
        if kind == "3d"
        else Target2D(project(away, camera), conf, camera, torch.full((2,), 100.0, dtype=torch.float64))
    )
    weights = Weights(prior=0.01, limits=0.3, betas=0.02, outlier=outlier, tether=0.05, lean=0.1)
    problem = Problem(points, target, bank_prior(), weights, True, tether_BN3=state.rotvec + 0.1)
    solver = Solver(problem)
    linear = solver.linearise(problem, state)
    size = 3 * len(solver.movable)

    def energy_at(step: Tensor) -> Tensor:
        rotvec = state.rotvec.clone()
        rotvec[:, solver.movable] += step[:, :size].unflatten(1, (-1, 3))
        moved = State(rotvec, state.transl + step[:, size : size + 3], state.betas + step[:, size + 3 :])
        return solver.linearise(problem, moved).energy

    width = linear.gradient.shape[1]
    for column in range(0, width):
        step = torch.zeros(2, width, dtype=torch.float64)
        step[:, column] = 1e-5
        slope = (energy_at(step) - energy_at(-step)) / 2e-5
        torch.testing.assert_close(2 * linear.gradient[:, column], slope, rtol=2e-4, atol=1e-6)


# --- 3D joints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [22, 24, 32])
def test_joints_round_trip(body: BodyModel, joints: Tensor, count: int) -> None:
    result = fit_joints3d(body, joints[:, :count])
    error = error_mm(body, result, joints[:, :count])
    assert error.mean() < 2
    assert error.mean(1).max() < 6
    torch.testing.assert_close(result.error, error.mean(1) / 1000, atol=1e-5, rtol=0)
    assert result.valid.all()


def test_known_shape_gives_the_joints_to_a_fraction_of_a_millimetre(
    body: BodyModel, people: dict[str, Tensor], joints: Tensor
) -> None:
    result = fit_joints3d(body, joints, betas=people["betas"])
    assert torch.equal(result.betas, people["betas"])
    assert error_mm(body, result, joints).mean() < 0.3
    # what the joints show of the rotations comes back too
    turned = geodesic_degrees(rotvec_to_matrix(result.global_orient), people["global_orient"])
    assert turned.mean() < 1
    knees = [POSE32.index(f"{side}_knee") - 1 for side in ("left", "right")]
    bent = rotvec_to_matrix(result.body_pose[:, knees]), rotvec_to_matrix(people["body_pose"][:, knees])
    assert geodesic_degrees(*bent).median() < 6


@pytest.mark.parametrize("skeleton", ["coco17", "h36m17"])
def test_regressed_joints(body: BodyModel, people: dict[str, Tensor], joints: Tensor, skeleton: str) -> None:
    seen = body.regress(body(**people).vertices, skeleton)
    result = fit_joints3d(body, seen, skeleton=skeleton)
    assert 1000 * result.error.mean() < 3
    limbs = POSE32.indices("left_knee", "right_knee", "left_ankle", "left_elbow", "left_wrist", "right_wrist")
    assert error_mm(body, result, joints)[:, limbs].mean() < 15


def test_missing_joints(body: BodyModel, joints: Tensor) -> None:
    conf = torch.ones(joints.shape[:2])
    gone = POSE32.indices("left_elbow", "left_wrist", "left_hand", "spine2", "right_knee", "pelvis")
    conf[:, gone] = 0
    broken = joints.clone()
    broken[:, gone] = torch.nan
    broken[0, gone] = 1e30
    result = fit_joints3d(body, broken, conf)
    error = error_mm(body, result, joints)
    kept = [j for j in range(32) if j not in gone]
    assert error[:, kept].mean() < 2
    # bones that are still between joints come out; an arm that is not seen bends as people's arms do
    assert error[:, POSE32.index("pelvis")].mean() < 15
    low, high = JOINT_LIMITS.unbind(-1)
    arm = [POSE32.index("left_shoulder") - 1, POSE32.index("left_elbow") - 1]
    assert ((result.body_pose > low - 0.2) & (result.body_pose < high + 0.2))[:, arm].all()


def test_unseen_numbers_do_not_matter(body: BodyModel, joints: Tensor) -> None:
    conf = torch.ones(8, 32)
    conf[:, 20:] = 0
    junk = joints[:8].clone()
    junk[:, 20:] = torch.inf
    assert torch.equal(fit_joints3d(body, joints[:8], conf).body_pose, fit_joints3d(body, junk, conf).body_pose)


def test_noise_and_outliers(body: BodyModel, joints: Tensor) -> None:
    rng = torch.Generator().manual_seed(1)
    noisy = joints + 0.01 * torch.randn(joints.shape, generator=rng)
    plain = error_mm(body, fit_joints3d(body, noisy), joints).mean()
    assert plain < 16  # the noise itself is 16 mm
    wrong = noisy.clone()
    rows = torch.arange(len(wrong))
    limb = torch.tensor(POSE32.indices("left_wrist", "right_ankle", "left_ankle", "right_elbow"))[rows % 4]
    wrong[rows, limb] += torch.tensor([0.0, 0.0, 0.5])
    others = torch.ones(len(wrong), 32, dtype=torch.bool)
    others[rows, limb] = False
    robust = fit_joints3d(body, wrong, weights=replace(WEIGHTS_3D, outlier=0.05))
    fooled = fit_joints3d(body, wrong)
    assert error_mm(body, robust, joints)[others].mean() < 1.2 * plain
    assert error_mm(body, robust, joints)[others].mean() < error_mm(body, fooled, joints)[others].mean()


def test_batch_does_not_matter(body: BodyModel, joints: Tensor) -> None:
    together = fit_joints3d(body, joints)
    alone = FitResult.cat([fit_joints3d(body, joints[i : i + 1]) for i in range(6)])
    chunked = fit_joints3d(body, joints, chunk=7)
    for other, count in ((alone, 6), (chunked, len(joints))):
        assert (other.joints(body) - together.joints(body)[:count]).abs().max() < 1e-4
        assert (other.body_pose - together.body_pose[:count]).abs().max() < 5e-3
    again = fit_joints3d(body, joints)
    assert all(torch.equal(a, b) for a, b in zip(again.values(), together.values(), strict=True))


def test_empty_batch(body: BodyModel) -> None:
    for result in (
        fit_joints3d(body, torch.zeros(0, 32, 3), torch.zeros(0, 32)),
        fit_joints2d(body, torch.zeros(0, 32, 2), None, torch.zeros(0, 3, 3)),
        fit_vertices(body, torch.zeros(0, len(body.v_template), 3)),
    ):
        assert result.body_pose.shape == (0, 23, 3)
        assert result.betas.shape == (0, 10)
        assert result.joints(body).shape == (0, 32, 3)


def test_one_person_many_frames_share_a_shape(body: BodyModel, people: dict[str, Tensor]) -> None:
    group = torch.arange(48) // 24
    shapes = people["betas"][:2]
    seen = body.joints(**{**people, "betas": shapes[group]})
    rng = torch.Generator().manual_seed(0)
    noisy = seen + 0.005 * torch.randn(seen.shape, generator=rng)
    shared = fit_joints3d(body, noisy, group_B=group)
    assert shared.betas[:24].std(0).max() < 1e-6
    assert shared.betas[24:].std(0).max() < 1e-6
    single = fit_joints3d(body, noisy)

    def rest(betas: Tensor) -> Tensor:
        return body.joints(betas, torch.zeros(48, 23, 3), torch.zeros(48, 3))[:, :24]

    off = [(rest(r.betas) - rest(shapes[group])).norm(dim=-1).mean() for r in (shared, single)]
    assert off[0] < 0.9 * off[1]
    assert error_mm(body, shared, seen).mean() < error_mm(body, single, seen).mean()


def test_init_and_tether(body: BodyModel, joints: Tensor) -> None:
    known = fit_joints3d(body, joints[:8])
    again = fit_joints3d(body, joints[:8], init=known, iterations=2)
    assert error_mm(body, again, joints[:8]).mean() <= error_mm(body, known, joints[:8]).mean() + 0.05
    conf = torch.ones(8, 32)
    arm = POSE32.indices("left_elbow", "left_wrist", "left_hand")
    conf[:, arm] = 0
    held = fit_joints3d(body, joints[:8], conf, init=known, weights=replace(WEIGHTS_3D, tether=0.05))
    loose = fit_joints3d(body, joints[:8], conf)
    assert error_mm(body, held, joints[:8])[:, arm].mean() < 20 < error_mm(body, loose, joints[:8])[:, arm].mean()


def test_real_motions(body: BodyModel, shared_data: object) -> None:
    """Joints of SMPL's own skeleton, which lie differently in the torso: limbs must still point the same way."""
    motion = np.load(f"{shared_data}/samples/humanml3d/new_joints/012314.npy")
    seen = torch.from_numpy(motion).float()[::5]
    result = fit_joints3d(body, seen, group_B=torch.zeros(len(seen), dtype=torch.long))
    found = result.joints(body)[:, :22]
    assert 1000 * result.error.mean() < 40
    for upper, lower in (("left_hip", "left_knee"), ("right_knee", "right_ankle"), ("left_elbow", "left_wrist")):
        a, b = POSE32.index(upper), POSE32.index(lower)
        cosine = torch.cosine_similarity(found[:, b] - found[:, a], seen[:, b] - seen[:, a], dim=-1)
        assert torch.rad2deg(torch.arccos(cosine.clamp(-1, 1))).mean() < 12
    assert result.betas.abs().max() < 8


# --- vertices -------------------------------------------------------------------------------------------------------


def test_vertices_round_trip(body: BodyModel, people: dict[str, Tensor]) -> None:
    some = {name: value[:16] for name, value in people.items()}
    verts = body(**some).vertices
    result = fit_vertices(body, verts)
    assert result.error.max() < 0.001
    assert (result.betas - some["betas"]).abs().max() < 0.05
    assert (result.body_pose - some["body_pose"]).abs().max() < 0.02
    rng = torch.Generator().manual_seed(0)
    noisy = fit_vertices(body, verts + 0.005 * torch.randn(verts.shape, generator=rng))
    found = body(noisy.betas, noisy.body_pose, noisy.global_orient, noisy.transl).vertices
    assert (found - verts).norm(dim=-1).mean() < 0.003


# --- pictures -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(body: BodyModel, people: dict[str, Tensor]) -> dict[str, Tensor]:
    """The people 4 to 6 m before a camera: camera-frame joints and vertices' regressed joints, intrinsics."""
    rng = torch.Generator().manual_seed(5)
    upside = rotation_about("x", math.pi + 0.26 * torch.randn(48, generator=rng))
    place = torch.tensor([0.3, 0.3, 0.6]) * torch.randn(48, 3, generator=rng) + torch.tensor([0.0, 0.0, 5.0])
    out = body(0.7 * people["betas"], people["body_pose"], upside @ people["global_orient"], place)
    return {
        "joints": out.joints,
        "lsp14": body.regress(out.vertices, "lsp14"),
        "camera": make_intrinsics(torch.full((48,), 500.0), 256),
    }


@pytest.mark.parametrize("skeleton", ["pose32", "lsp14"])
def test_pictures(body: BodyModel, pictures: dict[str, Tensor], skeleton: str) -> None:
    seen = project(pictures["joints"] if skeleton == "pose32" else pictures[skeleton], pictures["camera"])
    result = fit_joints2d(body, seen, None, pictures["camera"], skeleton=skeleton)
    assert result.error.mean() < 2
    assert result.error.max() < 4
    if skeleton == "pose32":
        found = project(result.joints(body), pictures["camera"])
        torch.testing.assert_close(result.error, (found - seen).norm(dim=-1).mean(1), atol=0.01, rtol=0)
    error = pa_mpjpe(result.joints(body)[:, :24], pictures["joints"][:, :24])
    still = pa_mpjpe(body.joints(torch.zeros(48, 10), torch.zeros(48, 23, 3), torch.zeros(48, 3))[:, :24],
                     pictures["joints"][:, :24])  # fmt: skip
    assert error.mean() < 60
    assert error.mean() < 0.35 * still.mean()
    depth = (result.transl[:, 2] - (pictures["joints"][:, 0, 2])).abs()
    assert depth.median() < 0.4


def test_pictures_with_wrong_and_missing_keypoints(body: BodyModel, pictures: dict[str, Tensor]) -> None:
    truth = project(pictures["lsp14"], pictures["camera"])
    seen, conf = truth.clone(), torch.ones(48, 14)
    seen[:, 6] += 60  # a wrist, half a metre off
    conf[:, :2] = 0
    seen[:, :2] = torch.nan
    kept = [j for j in range(2, 14) if j != 6]
    robust = fit_joints2d(body, seen, conf, pictures["camera"], skeleton="lsp14")
    plain = fit_joints2d(
        body, seen, conf, pictures["camera"], skeleton="lsp14", weights=replace(WEIGHTS_2D, outlier=None)
    )

    def error(result: FitResult) -> Tensor:
        out = body(result.betas, result.body_pose, result.global_orient, result.transl)
        found = project(body.regress(out.vertices, "lsp14"), pictures["camera"])
        return (found - truth).norm(dim=-1)[:, kept].mean()

    assert error(robust) < 3
    assert error(robust) < error(plain)


def test_pictures_from_a_given_start_and_one_shape(body: BodyModel, pictures: dict[str, Tensor]) -> None:
    seen = project(pictures["joints"][:12], pictures["camera"][:12])
    first = fit_joints3d(body, pictures["joints"][:12])
    free, near = (
        fit_joints2d(body, seen, None, pictures["camera"][:12], init=first, weights=replace(WEIGHTS_2D, tether=tether))
        for tether in (0.0, 0.3)
    )
    free_error, near_error = (
        pa_mpjpe(r.joints(body)[:, :24], pictures["joints"][:12, :24]).mean() for r in (free, near)
    )
    assert near_error < 10
    assert near_error < free_error
    group = torch.zeros(12, dtype=torch.long)
    shared = fit_joints2d(body, seen, None, pictures["camera"][:12], group_B=group, on_bad="raise")
    assert shared.betas.std(0).max() < 1e-6
    assert shared.error.mean() < 4


def test_pictures_in_any_batch(body: BodyModel, pictures: dict[str, Tensor]) -> None:
    seen = project(pictures["joints"], pictures["camera"])[:6]
    together = fit_joints2d(body, seen, None, pictures["camera"][:6])
    alone = FitResult.cat([fit_joints2d(body, seen[i : i + 1], None, pictures["camera"][:1]) for i in range(6)])
    assert (together.error - alone.error).abs().max() < 0.05
    assert (together.joints(body) - alone.joints(body)).abs().max() < 0.02


# --- bad input ------------------------------------------------------------------------------------------------------


def test_bad_numbers(body: BodyModel, joints: Tensor) -> None:
    bad = joints[:3].clone()
    bad[1, 4] = torch.nan
    with pytest.raises(PosesynError, match="1 of 3 samples cannot be fitted, the first is number 1"):
        fit_joints3d(body, bad)
    result = fit_joints3d(body, bad, on_bad="mask")
    assert result.valid.tolist() == [True, False, True]
    assert result.error[1] == torch.inf
    assert torch.isfinite(result.body_pose).all()
    assert error_mm(body, result, joints[:3])[[0, 2]].mean() < 2
    conf = torch.zeros(3, 32)
    conf[:2] = 1
    conf[0, 3] = -1
    assert fit_joints3d(body, joints[:3], conf, on_bad="mask").valid.tolist() == [False, True, False]
    with pytest.raises(PosesynError, match="under 3 points"):
        fit_joints3d(body, joints[:1], torch.zeros(1, 32))
    nothing = fit_joints3d(body, joints[:2], torch.zeros(2, 32), on_bad="mask")
    assert not nothing.valid.any()
    camera = make_intrinsics(torch.tensor([500.0]), 256)
    with pytest.raises(PosesynError, match="focal"):
        fit_joints2d(body, torch.zeros(1, 32, 2), None, -camera)
    same_place = fit_joints2d(body, torch.full((1, 32, 2), 100.0), None, camera)
    assert torch.isfinite(same_place.joints(body)).all()
    verts = body.v_template[None].repeat(2, 1, 1)
    verts[1, 7] = torch.inf
    assert fit_vertices(body, verts, on_bad="mask").valid.tolist() == [True, False]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda body: fit_joints3d(body, torch.zeros(2, 17, 3)), "22 or 24"),
        (lambda body: fit_joints3d(body, torch.zeros(2, 32, 3), torch.ones(2, 31)), "confidences must have shape"),
        (lambda body: fit_joints3d(body, torch.zeros(2, 32, 3), skeleton="body25"), "no joints called 'body25'"),
        (lambda body: fit_joints3d(body, torch.ones(2, 32, 3), betas=torch.zeros(1, 10)), "betas must have shape"),
        (lambda body: fit_joints2d(body, torch.ones(2, 32, 2), None, torch.eye(3)), "intrinsics must have shape"),
        (lambda body: fit_joints2d(body, torch.ones(1, 32, 2), None, torch.eye(3)[None], starts=3), "divide 16"),
        (lambda body: fit_vertices(body, torch.zeros(2, 6890, 3)), "13492 vertices, got 6890"),
    ],
)
def test_bad_shapes(body: BodyModel, call: object, message: str) -> None:
    with pytest.raises(PosesynError, match=message):
        call(body)  # type: ignore[operator]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu(body: BodyModel, joints: Tensor, pictures: dict[str, Tensor]) -> None:
    there = load_body("free").cuda()
    result = fit_joints3d(there, joints.cuda()).to("cpu")
    assert (result.joints(body) - fit_joints3d(body, joints).joints(body)).abs().max() < 1e-3
    seen = project(pictures["joints"], pictures["camera"])
    flat = fit_joints2d(there, seen.cuda(), None, pictures["camera"].cuda()).to("cpu")
    assert abs(flat.error.mean() - fit_joints2d(body, seen, None, pictures["camera"]).error.mean()) < 0.1
