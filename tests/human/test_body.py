"""The free body: same skinning as smplx, a T-pose that is one, regressors that follow the joints."""

import math
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import smplx
import torch
from torch import Tensor

from human.body import BODY_MODELS, BodyModel, load_body
from human.errors import PosesynError
from human.joint_limits import JOINT_LIMITS, clamp_pose
from human.lbs import SMPL_PARENTS, forward_kinematics, skin, tree_levels
from human.rotations import rotvec_to_matrix
from human.skeleton import POSE32, SKELETONS, SMPL24

FLIP = torch.tensor([-1.0, 1.0, 1.0])
REGRESSORS = ("coco17", "lsp14", "mpii16", "h36m17")


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("free")


def random_inputs(batch: int, spread: float = 0.4, seed: int = 0) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {
        "betas": torch.randn(batch, 10, generator=rng),
        "body_pose": spread * torch.randn(batch, 23, 3, generator=rng),
        "global_orient": torch.randn(batch, 3, generator=rng),
        "transl": torch.randn(batch, 3, generator=rng),
    }


def natural_poses(batch: int, seed: int = 1) -> Tensor:
    """Random poses inside the joint limits, arms hanging on average."""
    rng = torch.Generator().manual_seed(seed)
    pose = 0.3 * torch.randn(batch, 23, 3, generator=rng)
    pose[:, SMPL24.index("left_shoulder") - 1, 2] -= 0.6
    pose[:, SMPL24.index("right_shoulder") - 1, 2] += 0.6
    return clamp_pose(pose)


def posed(body: BodyModel, **degrees: tuple[float, float, float]) -> dict[str, Tensor]:
    """Joints by name of the mean body with some rotation vectors set."""
    pose = torch.zeros(1, 23, 3)
    for name, vector in degrees.items():
        pose[0, SMPL24.index(name) - 1] = torch.deg2rad(torch.tensor(vector))
    joints = body.joints(torch.zeros(1, 10), pose, torch.zeros(1, 3))[0]
    return dict(zip(POSE32.joints, joints, strict=True))


# --- skinning -------------------------------------------------------------------------------------------------------


def test_equals_smplx_given_the_same_arrays(body: BodyModel) -> None:
    inputs = random_inputs(4)
    reference = smplx.SMPL(
        model_path="",
        data_struct=SimpleNamespace(
            f=body.faces.numpy(),
            v_template=body.v_template.numpy(),
            shapedirs=body.shapedirs.numpy(),
            posedirs=np.zeros((len(body.v_template), 3, 207), np.float32),
            J_regressor=body.J_regressor.numpy(),
            kintree_table=np.array([SMPL_PARENTS, range(24)]),
            weights=body.weights.numpy(),
        ),
        batch_size=4,
    )
    with torch.no_grad():
        ours = body(**inputs)
        theirs = reference(**{**inputs, "body_pose": inputs["body_pose"].flatten(1)})
    assert (ours.vertices - theirs.vertices).abs().max() < 1e-5
    assert (ours.joints[:, :24] - theirs.joints[:, :24]).abs().max() < 1e-5


def test_forward_kinematics_accepts_any_tree_order() -> None:
    # two chains interleaved so that depth order is not joint order
    parents = (-1, 0, 1, 0, 3)
    assert tree_levels(parents) == [[0], [1, 3], [2, 4]]
    rng = torch.Generator().manual_seed(0)
    rotations = rotvec_to_matrix(torch.randn(2, 5, 3, generator=rng))
    rest = torch.randn(2, 5, 3, generator=rng)
    world, joints = forward_kinematics(rotations, rest, parents)
    for j, parent in enumerate(parents[1:], start=1):
        torch.testing.assert_close(world[:, j], world[:, parent] @ rotations[:, j])
        bone = (world[:, parent] @ (rest[:, j] - rest[:, parent])[..., None])[..., 0]
        torch.testing.assert_close(joints[:, j], joints[:, parent] + bone)


def test_skinning_with_one_joint_is_a_rigid_motion() -> None:
    rng = torch.Generator().manual_seed(0)
    vertices, rest = torch.randn(1, 6, 3, generator=rng), torch.randn(1, 1, 3, generator=rng)
    rotation = rotvec_to_matrix(torch.tensor([[[0.3, -1.0, 0.5]]]))
    moved = skin(vertices, torch.ones(6, 1), rotation, rest + 1, rest)
    torch.testing.assert_close(moved, (vertices - rest) @ rotation[0, 0].T + rest + 1)


# --- joints, input forms, gradients ---------------------------------------------------------------------------------


@pytest.mark.parametrize("with_transl", [True, False])
def test_joints_equal_forward(body: BodyModel, with_transl: bool) -> None:
    inputs = random_inputs(3)
    if not with_transl:
        del inputs["transl"]
    output = body(**inputs)
    assert output.vertices.shape == (3, 13492, 3)
    assert output.joints.shape == (3, 32, 3)
    assert (body.joints(**inputs) - output.joints).abs().max() < 1e-5


def test_matrices_equal_rotation_vectors(body: BodyModel) -> None:
    inputs = random_inputs(2)
    matrices = inputs | {k: rotvec_to_matrix(inputs[k]) for k in ("body_pose", "global_orient")}
    torch.testing.assert_close(body.joints(**matrices), body.joints(**inputs))


def test_gradients_are_finite_at_rest_and_reach_every_input(body: BodyModel) -> None:
    inputs = {k: torch.zeros_like(v).requires_grad_() for k, v in random_inputs(1).items()}
    target = body(**random_inputs(1)).joints.detach()
    (body.joints(**inputs) - target).square().sum().backward()
    for name, value in inputs.items():
        assert value.grad is not None
        assert value.grad.isfinite().all(), name
        assert value.grad.abs().sum() > 0, name


def test_gradient_of_joints_matches_finite_differences(body: BodyModel) -> None:
    double = load_body("free").double()
    inputs = {k: v.double() for k, v in random_inputs(1).items()}
    direction = torch.randn(1, 23, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    pose = inputs["body_pose"].requires_grad_()
    (gradient,) = torch.autograd.grad(double.joints(**inputs).sum(), pose)
    step = 1e-5
    with torch.no_grad():
        ends = [double.joints(**inputs | {"body_pose": pose + s * step * direction}).sum() for s in (1, -1)]
    assert (gradient * direction).sum().item() == pytest.approx(((ends[0] - ends[1]) / (2 * step)).item(), rel=1e-4)


def test_autocast_stays_in_float32(body: BodyModel) -> None:
    inputs = random_inputs(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        joints = body.joints(**inputs)
    assert joints.dtype == torch.float32
    torch.testing.assert_close(joints, body.joints(**inputs))


def test_survives_pickling_and_stays_out_of_checkpoints(body: BodyModel) -> None:
    copy = pickle.loads(pickle.dumps(body))
    inputs = random_inputs(1)
    assert torch.equal(copy(**inputs).vertices, body(**inputs).vertices)
    assert body.state_dict() == {}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("betas", (2, 9)),
        ("betas", (10,)),
        ("betas", ()),
        ("body_pose", (2, 69)),
        ("body_pose", (1, 23, 3)),
        ("body_pose", (2, 24, 3)),
        ("global_orient", (2, 1, 3)),
        ("global_orient", (2, 4)),
        ("transl", (3,)),
    ],
)
def test_wrong_shapes_are_named(body: BodyModel, name: str, shape: tuple[int, ...]) -> None:
    inputs = random_inputs(2) | {name: torch.zeros(shape)}
    with pytest.raises(PosesynError, match=r"must have shape .* got"):
        body.joints(**inputs)


def test_empty_batch(body: BodyModel) -> None:
    assert body(**random_inputs(0)).joints.shape == (0, 32, 3)


def test_unknown_body_lists_the_known_ones() -> None:
    assert "free" in BODY_MODELS.names()
    with pytest.raises(PosesynError, match="free"):
        load_body("smlp")


# --- the asset ------------------------------------------------------------------------------------------------------


def test_arrays_are_sound(body: BodyModel) -> None:
    vertices = len(body.v_template)
    assert body.faces.max() == vertices - 1
    assert body.part.shape == (vertices,)
    assert set(body.part.tolist()) == set(range(24))
    torch.testing.assert_close(body.weights.sum(1), torch.ones(vertices))
    assert body.weights.min() >= 0
    assert int((body.weights > 0).sum(1).max()) <= 8
    assert body.uv.min() >= 0
    assert body.uv.max() <= 1
    assert body.faces_uv.shape == body.faces.shape
    assert body.faces_uv.max() < len(body.uv)
    torch.testing.assert_close(body.J_regressor.sum(1), torch.ones(24), atol=1e-5, rtol=0)
    a, b, c = body.v_template[body.faces].unbind(1)
    volume = (a * torch.linalg.cross(b, c)).sum() / 6
    assert 0.05 < volume < 0.09  # positive: faces look outwards; cubic metres


@pytest.mark.parametrize("seed", range(3))
def test_t_pose(body: BodyModel, seed: int) -> None:
    betas = torch.randn(1, 10, generator=torch.Generator().manual_seed(seed))
    output = body(betas, torch.zeros(1, 23, 3), torch.zeros(1, 3))
    j = dict(zip(POSE32.joints, output.joints[0], strict=True))
    for side, sign in (("left", 1), ("right", -1)):
        arm = torch.stack([j[f"{side}_{part}"] for part in ("shoulder", "elbow", "wrist", "hand")])
        assert (arm[:, 0].diff() * sign > 0.05).all()
        assert arm[:, 1:].std(0).max() < 0.01  # straight and level
        leg = torch.stack([j[f"{side}_{part}"] for part in ("hip", "knee", "ankle", "foot")])
        assert (leg[:, 1].diff() < -0.03).all()
        assert (leg[0] - leg[2])[0].abs() < 0.1  # nearly vertical
        assert j[f"{side}_foot"][2] > j[f"{side}_ankle"][2] + 0.08
        assert j[f"{side}_ear"][0] * sign > 0.04
    assert j["head"][1] > j["neck"][1] > j["spine3"][1] > j["spine2"][1] > j["spine1"][1] > j["pelvis"][1] + 0.05
    assert j["pelvis"].norm() < 2e-3  # the origin
    assert j["nose"][2] > j["left_ear"][2] + 0.05
    top = output.vertices[0, :, 1].max()
    assert 0 <= top - j["head_top"][1] < 0.01
    assert 1.3 < top - output.vertices[0, :, 1].min() < 2.1


def test_palms_face_down_in_the_t_pose(body: BodyModel) -> None:
    # relaxed fingers curl towards the palm, so their tips hang below the knuckles
    hands = body.part == SMPL24.index("left_hand")
    tips = body.v_template[hands]
    assert tips[tips[:, 0] > tips[:, 0].quantile(0.9), 1].mean() < body.J_template[SMPL24.index("left_hand"), 1]
    # and the thumb points forward
    wrist = body.v_template[body.part == SMPL24.index("left_wrist")]
    assert wrist[:, 2].max() - body.J_template[20, 2] > body.J_template[20, 2] - wrist[:, 2].min()


def test_betas_have_the_spread_of_people(body: BodyModel) -> None:
    tall, short = (
        body(s * torch.eye(10)[:1], torch.zeros(1, 23, 3), torch.zeros(1, 3)).vertices[0, :, 1] for s in (1.0, -1.0)
    )
    # one standard deviation of stature over both sexes is about 10 cm
    assert 0.14 < float(np.ptp(tall.numpy()) - np.ptp(short.numpy())) < 0.26


def test_body_is_its_own_mirror_image(body: BodyModel) -> None:
    assert torch.equal(body.mirror[body.mirror], torch.arange(len(body.mirror)))
    torch.testing.assert_close(body.v_template[body.mirror] * FLIP, body.v_template, atol=1e-6, rtol=0)
    torch.testing.assert_close(body.shapedirs[body.mirror] * FLIP[:, None], body.shapedirs, atol=1e-6, rtol=0)
    swap = list(SMPL24.flip_permutation)
    torch.testing.assert_close(body.weights[body.mirror][:, swap], body.weights, atol=2e-5, rtol=0)
    torch.testing.assert_close(body.J_template[swap] * FLIP, body.J_template, atol=1e-5, rtol=0)


# --- regressors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors_are_mirror_symmetric(body: BodyModel, name: str) -> None:
    vertices = body(**random_inputs(2)).vertices
    direct = body.regress(vertices, name)
    assert direct.shape == (2, len(SKELETONS[name]), 3)
    mirrored = body.regress((vertices * FLIP)[:, body.mirror], name) * FLIP
    torch.testing.assert_close(mirrored[:, list(SKELETONS[name].flip_permutation)], direct, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "limit"), [("coco17", 0.06), ("lsp14", 0.03), ("mpii16", 0.03), ("h36m17", 0.03)])
def test_regressed_joints_follow_the_kinematic_ones(body: BodyModel, name: str, limit: float) -> None:
    inputs = random_inputs(12, seed=3) | {"body_pose": natural_poses(12)}
    output = body(**inputs)
    regressed = body.regress(output.vertices, name)
    shared = [joint for joint in SKELETONS[name].joints if joint in POSE32.joints]
    assert len(shared) >= 14
    gap = regressed[:, SKELETONS[name].indices(*shared)] - output.joints[:, POSE32.indices(*shared)]
    worst = gap.norm(dim=-1).amax(0)
    assert worst.max() < limit, dict(zip(shared, worst.tolist(), strict=True))


def test_h36m_spine_lies_between_pelvis_and_thorax(body: BodyModel) -> None:
    vertices = body(**random_inputs(4) | {"body_pose": natural_poses(4)}).vertices
    joints = body.regress(vertices, "h36m17")
    pelvis, spine, thorax = (joints[:, SKELETONS["h36m17"].index(n)] for n in ("pelvis", "spine_h36m", "thorax"))
    along = ((spine - pelvis) * (thorax - pelvis)).sum(-1) / (thorax - pelvis).square().sum(-1)
    assert ((along > 0.3) & (along < 0.7)).all()


def test_regress_refuses_other_meshes_and_names(body: BodyModel) -> None:
    with pytest.raises(PosesynError, match="coco17, lsp14"):
        body.regress(torch.zeros(1, 13492, 3), "coco")
    with pytest.raises(PosesynError, match="13492"):
        body.regress(torch.zeros(1, 6890, 3), "coco17")


# --- joint limits ---------------------------------------------------------------------------------------------------


def test_limits_are_mirrored_and_hold_the_t_pose() -> None:
    assert JOINT_LIMITS.shape == (23, 3, 2)
    assert (JOINT_LIMITS[..., 0] < 0).all()
    assert (JOINT_LIMITS[..., 1] > 0).all()
    assert JOINT_LIMITS.abs().max() < math.pi
    swap = [p - 1 for p in SMPL24.flip_permutation[1:]]
    other = JOINT_LIMITS[swap]
    torch.testing.assert_close(other[:, 0], JOINT_LIMITS[:, 0])
    torch.testing.assert_close(-other[:, 1:].flip(-1), JOINT_LIMITS[:, 1:])


def test_clamped_knees_and_elbows_bend_one_way(body: BodyModel) -> None:
    limits = {name: torch.rad2deg(JOINT_LIMITS[SMPL24.index(name) - 1]) for name in SMPL24.joints[1:]}
    rest = posed(body)
    for side, sign in (("left", 1), ("right", -1)):
        knee, elbow, hip, shoulder = (limits[f"{side}_{n}"] for n in ("knee", "elbow", "hip", "shoulder"))
        # far end of each range moves the limb where people can move it ...
        heel = posed(body, **{f"{side}_knee": (float(knee[0, 1]), 0.0, 0.0)})[f"{side}_ankle"]
        assert heel[2] < rest[f"{side}_ankle"][2] - 0.1
        bent = float(elbow[1].sum())  # one bound is nearly 0
        hand = posed(body, **{f"{side}_elbow": (0.0, bent, 0.0)})[f"{side}_wrist"]
        assert hand[2] > rest[f"{side}_wrist"][2] + 0.1
        knee_up = posed(body, **{f"{side}_hip": (float(hip[0, 0]), 0.0, 0.0)})[f"{side}_knee"]
        assert knee_up[2] > rest[f"{side}_knee"][2] + 0.2
        arm = posed(body, **{f"{side}_shoulder": (0.0, 0.0, -90.0 * sign)})[f"{side}_elbow"]
        assert arm[1] < rest[f"{side}_shoulder"][1] - 0.2
        assert shoulder[2, 0] < -90 * sign < shoulder[2, 1]
        # ... and the near end stops a few degrees past straight
        assert -10 <= knee[0, 0] < 0
        assert min(abs(float(v)) for v in elbow[1]) <= 10


def test_clamp_pose_is_idempotent_and_keeps_natural_poses() -> None:
    wild = 3 * torch.randn(5, 23, 3, generator=torch.Generator().manual_seed(0))
    clamped = clamp_pose(wild)
    assert torch.equal(clamp_pose(clamped), clamped)
    assert not torch.equal(clamped, wild)
    sitting = torch.zeros(23, 3)
    for name, vector in {
        "left_hip": (-85, 0, 0), "right_hip": (-85, 0, 0), "left_knee": (85, 0, 0), "right_knee": (85, 0, 0),
        "left_shoulder": (0, 0, -70), "right_shoulder": (0, 0, 70), "left_elbow": (0, -80, 0),
        "right_elbow": (0, 80, 0),
    }.items():  # fmt: skip
        sitting[SMPL24.index(name) - 1] = torch.deg2rad(torch.tensor(vector, dtype=torch.float32))
    assert torch.equal(clamp_pose(sitting), sitting)
    with pytest.raises(PosesynError, match="23, 3"):
        clamp_pose(torch.zeros(2, 24, 3))
