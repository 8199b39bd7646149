"""SMPL, SMPL-H and SMPL-X: equal to smplx on the same arrays, and BodyModel's interface."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import smplx
import torch
from smplx.vertex_ids import vertex_ids
from torch import Tensor

from human.body import BODY_MODELS, BodyModel, load_body
from human.body_folders import GENDERS, VARIABLE, VARIANTS
from human.errors import PosesynError
from human.licensed import LicensedBody, load_licensed, split_pose
from human.rotations import rotvec_to_matrix
from human.skeleton import LIMB_JOINTS, POSE32, SKELETONS, SMPL24
from human.smpl_files import LAYOUTS, SmplFile, read_smpl_file
from tests.licensed_files import body_arrays, npz, plain_pickle

LIMBS = POSE32.indices(*LIMB_JOINTS)
KINDS = ("smpl", "smplh", "smplx")
HAND = ("left_hand_pose", "right_hand_pose")
FILES = {"smpl": "smpl/SMPL_NEUTRAL.pkl", "smplh": "smplh/neutral/model.npz", "smplx": "smplx/SMPLX_NEUTRAL.npz"}
FACE = ("jaw_pose", "leye_pose", "reye_pose")


@pytest.fixture
def body(request: pytest.FixtureRequest, licensed: dict[str, LicensedBody]) -> LicensedBody:
    return licensed[request.param]


@pytest.fixture
def plain(body: LicensedBody, licensed_folder: Path) -> LicensedBody:
    """`body` with flat hands and without pose blend shapes."""
    plain = LicensedBody(_file(body.kind, licensed_folder), flat_hand_mean=True)
    plain.posedirs.zero_()
    return plain


every_kind = pytest.mark.parametrize("body", KINDS, indirect=True)


def inputs(batch: int, kind: str = "smpl", seed: int = 0) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    pose = 0.4 * torch.randn(batch, 23, 3, generator=rng)
    if kind != "smpl":  # smplx has no hand joints there
        pose[:, 21:] = 0
    return {
        "betas": torch.randn(batch, 10, generator=rng),
        "body_pose": pose,
        "global_orient": torch.randn(batch, 3, generator=rng),
        "transl": torch.randn(batch, 3, generator=rng),
    }


def parts(kind: str, batch: int, hand: int | tuple[int, ...] = 12) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(1)
    shape = (hand,) if isinstance(hand, int) else hand
    given = {name: 0.5 * torch.randn(batch, *shape, generator=rng) for name in HAND} if kind != "smpl" else {}
    if kind == "smplx":
        given |= {name: 0.3 * torch.randn(batch, 3, generator=rng) for name in FACE}
        given["expression"] = torch.randn(batch, 10, generator=rng)
    return given


def oracle(kind: str, licensed_folder: Path, batch: int, **options: Any) -> Any:
    """smplx's own model: SMPL-X from the very file, the others from the same arrays."""
    if kind == "smplx":
        return smplx.SMPLX(str(licensed_folder / "smplx" / "SMPLX_NEUTRAL.npz"), batch_size=batch, **options)
    arrays = dict(body_arrays(kind))
    arrays["kintree_table"] = arrays["kintree_table"].astype(np.int64)
    make = smplx.SMPL if kind == "smpl" else smplx.SMPLH
    return make("", data_struct=SimpleNamespace(**arrays), batch_size=batch, **options)


def for_smplx(kind: str, given: dict[str, Tensor]) -> dict[str, Tensor]:
    bones = 23 if kind == "smpl" else 21
    return {k: v[:, :bones].flatten(1) if k == "body_pose" else v.flatten(1) for k, v in given.items()}


# --- against smplx ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_equals_smplx(kind: str, licensed_folder: Path, licensed: dict[str, LicensedBody]) -> None:
    given, more = inputs(3, kind), parts(kind, 3)
    with torch.no_grad():
        theirs = oracle(kind, licensed_folder, 3, num_pca_comps=12)(**for_smplx(kind, given | more))
        ours = licensed[kind](**given, **more)
    assert (ours.vertices - theirs.vertices).abs().max() < 1e-5
    joints = LAYOUTS[kind].joints
    assert ours.all_joints.shape == (3, joints, 3)
    assert (ours.all_joints - theirs.joints[:, :joints]).abs().max() < 1e-5
    assert (ours.joints[:, :22] - theirs.joints[:, :22]).abs().max() < 1e-5
    for ours_name, index in zip(("nose", "right_eye", "left_eye", "right_ear", "left_ear"), range(5), strict=True):
        landmark = theirs.joints[:, joints + index]
        assert (ours.joints[:, POSE32.index(ours_name)] - landmark).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["smplh", "smplx"])
def test_whole_hands_flat_hands_and_matrices(
    kind: str, licensed_folder: Path, licensed: dict[str, LicensedBody]
) -> None:
    given, more = inputs(2, kind), parts(kind, 2, (15, 3))
    flat = LicensedBody(_file(kind, licensed_folder), flat_hand_mean=True)
    with torch.no_grad():
        for ours, mean in ((licensed[kind], False), (flat, True)):
            theirs = oracle(kind, licensed_folder, 2, use_pca=False, flat_hand_mean=mean)(
                **for_smplx(kind, given | more)
            )
            assert (ours(**given, **more).vertices - theirs.vertices).abs().max() < 1e-5
        matrices = more | {k: rotvec_to_matrix(more[k]) for k in more if k != "expression"}
        turned = {
            "body_pose": rotvec_to_matrix(given["body_pose"][:, :21]),
            "global_orient": rotvec_to_matrix(given["global_orient"]),
        }
        # matrices are taken as they are, as in smplx's layers: the mean hand is not added
        theirs = layer(kind, licensed_folder)(**given | matrices | turned)
        assert (licensed[kind](**given, **matrices).vertices - theirs.vertices).abs().max() < 1e-5


def layer(kind: str, folder: Path) -> Any:
    """smplx's model for rotation matrices."""
    if kind == "smplx":
        return smplx.SMPLXLayer(str(folder / FILES[kind]))
    return smplx.SMPLHLayer("", data_struct=SimpleNamespace(**body_arrays(kind)))


def _file(kind: str, folder: Path) -> SmplFile:
    return read_smpl_file(folder / FILES[kind], kind)


def test_more_shapes_and_expressions(licensed_folder: Path, tmp_path: Path) -> None:
    body = LicensedBody(_file("smplh", licensed_folder), num_betas=16)
    given = inputs(2, "smplh") | {"betas": torch.randn(2, 16, generator=torch.Generator().manual_seed(0))}
    arrays = dict(body_arrays("smplh"))
    reference = smplx.SMPLH("", data_struct=SimpleNamespace(**arrays), batch_size=2, use_pca=False)
    reference.shapedirs = torch.tensor(arrays["shapedirs"], dtype=torch.float32)  # smplx itself stops at 10 of 16
    with torch.no_grad():
        theirs = reference(**for_smplx("smplh", given))
        assert (body(**given).vertices - theirs.vertices).abs().max() < 1e-5
    with pytest.raises(PosesynError, match="16 shape directions"):
        LicensedBody(_file("smplh", licensed_folder), num_betas=17)
    few = LicensedBody(_file("smplx", licensed_folder), num_expression=4)
    with pytest.raises(PosesynError, match=r"expression must have shape \(1, up to 4\), got \(1, 5\)"):
        few.joints(**inputs(1, "smplx"), expression=torch.zeros(1, 5))


def test_400_directions_are_300_shapes_and_100_expressions(tmp_path: Path) -> None:
    wide = np.zeros((10475, 3, 400), np.float32)
    wide[..., :10], wide[..., 300:310] = np.moveaxis(body_arrays("smplx")["shapedirs"].reshape(10475, 3, 2, 10), 2, 0)
    path = npz(tmp_path / "wide.npz", "smplx", change=lambda c: c.update(shapedirs=wide))
    given, more = inputs(2, "smplx"), parts("smplx", 2, 6)
    with torch.no_grad():
        theirs = smplx.SMPLX(str(path), batch_size=2)(**for_smplx("smplx", given | more))
        assert (load_licensed("smplx", path)(**given, **more).vertices - theirs.vertices).abs().max() < 1e-5


@pytest.mark.parametrize(("kind", "numbers"), [("smpl", 72), ("smplh", 156), ("smplx", 165)])
def test_split_pose(kind: str, numbers: int, licensed_folder: Path, licensed: dict[str, LicensedBody]) -> None:
    poses = 0.3 * torch.randn(2, numbers, generator=torch.Generator().manual_seed(0))
    body = licensed[kind] if kind == "smpl" else LicensedBody(_file(kind, licensed_folder), flat_hand_mean=True)
    betas = torch.zeros(2, 10)
    reference = oracle(kind, licensed_folder, 2, use_pca=False, flat_hand_mean=True)
    split = split_pose(kind, poses)
    with torch.no_grad():
        theirs = reference(**for_smplx(kind, split), betas=betas, return_full_pose=True)
        assert (body(betas=betas, **split).vertices - theirs.vertices).abs().max() < 1e-5
    torch.testing.assert_close(theirs.full_pose.view(2, -1), poses)
    with pytest.raises(PosesynError, match=rf"{kind}.* must have shape \(B, {numbers}\)"):
        split_pose(kind, poses[:, 1:])


# --- BodyModel's interface -------------------------------------------------------------------------------------------


@every_kind
def test_joints_equal_forward(body: LicensedBody) -> None:
    given, more = inputs(3), parts(body.kind, 3)
    output = body(**given, **more)
    assert output.joints.shape == (3, 32, 3)
    assert (body.joints(**given, **more) - output.joints).abs().max() < 1e-5
    del given["transl"]
    assert (body.joints(**given) - body(**given).joints).abs().max() < 1e-5
    assert body(**inputs(0)).joints.shape == (0, 32, 3)


@every_kind
def test_matrices_equal_rotation_vectors(body: LicensedBody) -> None:
    given = inputs(2)
    matrices = given | {k: rotvec_to_matrix(given[k]) for k in ("body_pose", "global_orient")}
    torch.testing.assert_close(body(**matrices).vertices, body(**given).vertices)


@every_kind
def test_attributes_are_those_of_a_24_joint_body(body: LicensedBody) -> None:
    free = load_body("free")
    assert body.parents == free.parents
    assert body.num_betas == 10
    vertices = len(body.v_template)
    for name in ("J_template", "J_shapedirs", "extra_regressor"):
        assert getattr(body, name).shape[0] == getattr(free, name).shape[0]
    assert body.weights.shape == (vertices, 24)
    torch.testing.assert_close(body.weights.sum(1), torch.ones(vertices))
    assert body.part.shape == body.mirror.shape == (vertices,)
    assert body.faces_uv.shape == body.faces.shape
    assert body.faces_uv.max() < len(body.uv)
    assert 0 <= body.uv.min() <= body.uv.max() <= 1
    shape, still = torch.randn(4, 10, generator=torch.Generator().manual_seed(0)), torch.zeros(4, 23, 3)
    rest = body.J_template + (shape @ body.J_shapedirs.flatten(0, 1).T).unflatten(1, (24, 3))
    assert (body.joints(shape, still, still[:, 0])[:, :24] - rest).abs().max() < 1e-5
    shaped = body.v_template + (shape @ body.shapedirs.flatten(0, 1).T).unflatten(1, (vertices, 3))
    assert (body.J_regressor @ shaped - rest).abs().max() < 1e-5


@every_kind
def test_without_blend_shapes_and_fingers_it_is_a_plain_body(body: LicensedBody, plain: LicensedBody) -> None:
    """The folded weights and the hand joint are exact: what the fits see is the body but for its blend shapes."""
    given = inputs(2)  # with turned hands
    assert (plain(**given).vertices - BodyModel.forward(plain, **given).vertices).abs().max() < 1e-5
    assert (body(**given).joints[:, :24] - BodyModel.joints(body, **given)[:, :24]).abs().max() < 1e-5


@pytest.mark.parametrize("body", ["smplh", "smplx"], indirect=True)
def test_a_hand_turns_as_one(body: LicensedBody) -> None:
    given = inputs(2)
    turned = given | {"body_pose": given["body_pose"].clone()}
    turned["body_pose"][:, 21] += torch.tensor([0.0, 0.0, 1.0])
    before, after = body(**given).all_joints, body(**turned).all_joints
    first = (LAYOUTS[body.kind].hands or (0, 0))[0]
    hand, middle = slice(first, first + 15), first + 3
    torch.testing.assert_close(before[:, middle], after[:, middle])
    for a, b in ((before, after),):
        torch.testing.assert_close(torch.cdist(a[:, hand], a[:, hand]), torch.cdist(b[:, hand], b[:, hand]))
    assert (before[:, hand] - after[:, hand]).norm(dim=-1).max() > 0.02
    others = [j for j in range(before.shape[1]) if not first <= j < first + 15]
    torch.testing.assert_close(before[:, others], after[:, others])


@every_kind
def test_gradients_reach_every_input(body: LicensedBody) -> None:
    given = {k: torch.zeros_like(v).requires_grad_() for k, v in {**inputs(1), **parts(body.kind, 1)}.items()}
    weight = torch.randn(body.v_template.shape, generator=torch.Generator().manual_seed(0))
    (body(**given).vertices * weight).sum().backward()
    for name, value in given.items():
        assert value.grad is not None, name
        assert value.grad.isfinite().all(), name
        assert value.grad.abs().sum() > 0, name


@every_kind
def test_landmarks_are_where_docs_bodies_says(body: LicensedBody, plain: LicensedBody) -> None:
    still = plain(torch.zeros(1, 10), torch.zeros(1, 23, 3), torch.zeros(1, 3)).joints[0]
    joints = dict(zip(POSE32.joints, still, strict=True))
    rest = dict(zip(SMPL24.joints, body.J_template, strict=True))
    torch.testing.assert_close(joints["upper_neck"], (rest["neck"] + rest["head"]) / 2)
    shoulders = (rest["left_shoulder"] + rest["right_shoulder"]) / 2
    torch.testing.assert_close(joints["thorax"], (shoulders + rest["neck"]) / 2)
    assert joints["head_top"][1] == body.v_template[body.part == 15, 1].max()
    numbers = vertex_ids["smplx" if body.kind == "smplx" else "smplh"]
    for name, short in {"nose": "nose", "left_eye": "leye", "right_ear": "rear"}.items():
        torch.testing.assert_close(joints[name], body.v_template[numbers[short]])
        assert (joints[name] - rest["head"]).norm() < 0.25
    assert joints["nose"][2] > joints["left_ear"][2]
    assert joints["left_eye"][0] > joints["right_eye"][0]


@every_kind
def test_regressors_of_the_named_skeletons(body: LicensedBody) -> None:
    given = inputs(2, body.kind)
    output = body(**given)
    assert set(body.regressor_names) == {"coco17", "lsp14", "mpii16", "h36m17"}
    for name in body.regressor_names:
        found = body.regress(output.vertices, name)
        assert found.shape == (2, len(SKELETONS[name]), 3)
        at = SKELETONS[name].index("nose" if name in ("coco17", "h36m17") else "head_top")
        joint = POSE32.index(SKELETONS[name].joints[at])
        torch.testing.assert_close(found[:, at], output.joints[:, joint], atol=1e-5, rtol=0)
    still = body(torch.zeros(1, 10), torch.zeros(1, 23, 3), torch.zeros(1, 3)).vertices
    hips = body.regress(still, "h36m17")[0, [1, 4]]
    torch.testing.assert_close(body.regress(still, "h36m17")[0, 0], hips.mean(0))


@every_kind
def test_autocast_pickle_and_checkpoints(body: LicensedBody) -> None:
    given = inputs(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert body.joints(**given).dtype == torch.float32
    assert body.state_dict() == {}
    copy = pickle.loads(pickle.dumps(body))
    assert torch.equal(copy(**given).vertices, body(**given).vertices)


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("smpl", {"jaw_pose": torch.zeros(1, 3)}, "'smpl' has no jaw_pose"),
        ("smplh", {"expression": torch.zeros(1, 3)}, "'smplh' has no expression"),
        ("smplx", {"left_hand": torch.zeros(1, 3)}, "'smplx' has no left_hand"),
        ("smplx", {"jaw_pose": torch.zeros(2, 3)}, r"jaw_pose must have shape \(1, 3\) or \(1, 3, 3\), got \(2, 3\)"),
        ("smplx", {"left_hand_pose": torch.zeros(1, 46)}, r"left_hand_pose .* must have shape"),
        ("smplx", {"right_hand_pose": torch.zeros(1, 14, 3)}, r"right_hand_pose .* must have shape"),
        ("smplx", {"expression": torch.zeros(1, 11)}, "expression must have shape"),
        ("smpl", {"body_pose": torch.zeros(1, 21, 3)}, "body_pose must have shape"),
    ],
)
def test_wrong_parts_and_shapes_are_named(
    licensed: dict[str, LicensedBody], kind: str, more: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(PosesynError, match=message):
        licensed[kind](**{**inputs(1), **more})


# --- names and files -------------------------------------------------------------------------------------------------


def test_every_licensed_name_is_registered() -> None:
    assert set(BODY_MODELS.names()) >= {*VARIANTS, "free"}


def test_genders_load_through_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))

    def small(content: dict[str, Any]) -> None:
        content["posedirs"] = content["posedirs"].astype(np.float32)

    for gender in GENDERS:
        plain_pickle(tmp_path / "smpl" / f"SMPL_{gender.upper()}.pkl", "smpl", gender, small)
    heights = {name: float(np.ptp(load_body(name).v_template.numpy(), axis=0)[1]) for name in
               ("smpl", "smpl_male", "smpl_female")}  # fmt: skip
    for name, height in heights.items():
        gender = VARIANTS[name].gender
        assert height == pytest.approx(np.ptp(body_arrays("smpl", gender)["v_template"], axis=0)[1], rel=1e-6)


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_a_missing_file_is_one_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "own"))
    monkeypatch.setenv("POSESYN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PosesynError) as caught:
        load_body(name)
    text = str(caught.value)
    variant = VARIANTS[name]
    file = {"smpl": "SMPL_{}.pkl", "smplh": "SMPLH_{}.pkl", "smplx": "SMPLX_{}.npz"}[variant.kind]
    site = {"smpl": "smpl.is.tue", "smplh": "mano.is.tue", "smplx": "smpl-x.is.tue"}[variant.kind]
    for part in (repr(name), file.format(variant.gender.upper()), site, VARIABLE, *map(str, (
        tmp_path / "own", tmp_path / "body_models", tmp_path / "models", tmp_path / "cache" / "body_models"
    ))):  # fmt: skip
        assert part in text
    assert "\n" not in text


def test_a_missing_gender_names_those_that_are_here(licensed_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(licensed_folder))
    with pytest.raises(PosesynError, match=r"'smplx_male' needs the file SMPLX_MALE.npz .*\(here: smplx\)"):
        load_body("smplx_male")
    with pytest.raises(PosesynError, match="no licensed body is called 'smplx_other'; known: smpl"):
        load_licensed("smplx_other")
    with pytest.raises(PosesynError, match=r"SMPLX_NEUTRAL.npz holds SMPL-X .* not SMPL:"):
        load_licensed("smpl", licensed_folder / "smplx" / "SMPLX_NEUTRAL.npz")
