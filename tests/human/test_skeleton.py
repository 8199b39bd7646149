"""Joint sets: trees, mirroring, conversion by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from human.errors import PosesynError
from human.skeleton import LIMB_JOINTS, LSP14, POSE32, SKELETONS, SMPL24, Skeleton, convert, get_skeleton

names = st.sampled_from(sorted(SKELETONS))


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_every_skeleton_is_a_forest_of_distinct_joints(skeleton: Skeleton) -> None:
    assert len(set(skeleton.joints)) == len(skeleton) == len(skeleton.parents)
    assert SKELETONS[skeleton.name] is skeleton
    for start in range(len(skeleton)):
        at, steps = start, 0
        while at >= 0:
            at, steps = skeleton.parents[at], steps + 1
            assert steps <= len(skeleton), f"{skeleton.joints[start]} hangs in a circle"
    assert len(skeleton.bones) == sum(p >= 0 for p in skeleton.parents)
    assert set(LIMB_JOINTS) <= set(skeleton.joints)


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_flip_twice_is_identity_and_swaps_sides(skeleton: Skeleton) -> None:
    perm = skeleton.flip_permutation
    assert [perm[i] for i in perm] == list(range(len(skeleton)))
    assert perm[skeleton.index("left_wrist")] == skeleton.index("right_wrist")
    for i, joint in enumerate(skeleton.joints):
        assert (perm[i] == i) == (not joint.startswith(("left_", "right_")))
        # Mirroring keeps the tree, but where a pair hangs from one of its own sides (coco17, lsp14).
        parent = skeleton.parents[i]
        if parent >= 0 and skeleton.name in ("smpl24", "pose32", "mpii16", "h36m17") and joint != "left_eye":
            assert skeleton.parents[perm[i]] == perm[parent]


def test_the_orders_that_files_depend_on() -> None:
    assert SMPL24.joints == POSE32.joints[:24]
    assert SMPL24.joints[15] == "head"
    assert SMPL24.parents[:9] == (-1, 0, 0, 0, 1, 2, 3, 4, 5)  # SMPL's kintree_table
    assert LSP14.joints[0] == "right_ankle"
    assert LSP14.joints[-1] == "head_top"
    assert len(POSE32) == 32


@given(src=names, dst=names, data=st.data())
def test_convert_moves_by_name_and_back(src: str, dst: str, data: st.DataObject) -> None:
    source, target = SKELETONS[src], SKELETONS[dst]
    finite = st.floats(-1e3, 1e3, width=32)
    values = data.draw(arrays(np.float32, (2, len(source), 3), elements=finite))
    conf = data.draw(arrays(np.float32, (2, len(source)), elements=st.floats(0, 1, width=32)))
    out, out_conf = convert(values, conf, src, dst)
    assert out.shape == (2, len(target), 3)
    assert out.dtype == values.dtype
    for j, joint in enumerate(target.joints):
        if joint in source.joints:
            np.testing.assert_array_equal(out[:, j], values[:, source.index(joint)])
            np.testing.assert_array_equal(out_conf[:, j], conf[:, source.index(joint)])
        else:
            assert (out[:, j] == 0).all()
            assert (out_conf[:, j] == 0).all()
    back, back_conf = convert(out, out_conf, dst, src)
    common = [i for i, joint in enumerate(source.joints) if joint in target.joints]
    np.testing.assert_array_equal(back[:, common], values[:, common])
    np.testing.assert_array_equal(back_conf[:, common], conf[:, common])
    as_torch, torch_conf = convert(torch.from_numpy(values), torch.from_numpy(conf), src, dst)
    np.testing.assert_array_equal(as_torch.numpy(), out)
    np.testing.assert_array_equal(torch_conf.numpy(), out_conf)


# What one set alone (or two) labels: nothing is taken for another joint without this list saying so.
OWN = {
    "body25": {f"{s}_{t}" for s in ("left", "right") for t in ("big_toe", "small_toe", "heel")},
    "jhmdb15": {"throat", "belly", "face"},
    "smplx55": set(SKELETONS["smplx55"].joints[22:]),  # jaw, eyeballs, fingers
}


@pytest.mark.parametrize("name", sorted(SKELETONS))
def test_the_superset_loses_nothing_but_what_one_set_alone_means(name: str) -> None:
    missing = set(SKELETONS[name].joints) - set(POSE32.joints)
    middles = {"mid_shoulders", "mid_hip"}
    alone = {j for j in missing if j.endswith(("_h36m", "_3dhp", "_ski")) or j in middles | OWN.get(name, set())}
    assert missing == alone


def test_junk_of_missing_joints_does_not_travel() -> None:
    values, conf = torch.full((14, 2), float("nan")), torch.zeros(14)
    out, out_conf = convert(values, conf, "lsp14", "pose32")
    assert out[POSE32.index("pelvis")].tolist() == [0, 0]  # lsp14 has none: 0, not a copy of joint 0
    assert out_conf.sum() == 0


def test_gradients_pass_through_convert() -> None:
    values = torch.ones(32, 3, requires_grad=True)
    convert(values, torch.ones(32), "pose32", "coco17")[0].sum().backward()
    assert values.grad is not None
    assert values.grad.sum() == 17 * 3


def test_wrong_names_and_shapes_are_named() -> None:
    with pytest.raises(PosesynError, match=r"'knee'.*left_knee"):
        POSE32.index("knee")
    with pytest.raises(PosesynError, match=r"'smplx'.*coco17"):
        get_skeleton("smplx")
    with pytest.raises(PosesynError, match=r"coco17.*17 joints.*14"):
        convert(np.zeros((14, 2)), np.zeros(14), "coco17", "pose32")
    with pytest.raises(PosesynError, match="17 joints"):
        convert(torch.zeros(17, 2), torch.zeros(16), "coco17", "pose32")
