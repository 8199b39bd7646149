"""Fits to joints: back to the bodies that gave them; what happens when data are missing or bad."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from human.body import BodyModel, load_body
from human.camera import make_intrinsics, project
from human.errors import PosesynError
from human.fit import WEIGHTS_3D, FitResult, Weights, fit_joints2d, fit_joints3d, fit_vertices
from human.fit_points import rotation_and_left_jacobian, skeleton_points, vertex_points
from human.fit_prior import bank_prior
from human.fit_solver import Problem, Solver, State, Target2D, Target3D
from human.joint_limits import JOINT_LIMITS
from human.rotations import geodesic_degrees, rotvec_to_matrix
from human.skeleton import POSE32
from tests.human.fit_people import error_mm

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
