"""Keypoint networks at tiny size: the real classes, weights that are random or known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch


def save_vitpose(folder: Path, experts: int = 1, points: int = 17) -> Path:
    """A ViTPose of two layers for pictures of 48 x 64, as a hub's checkpoint."""
    import transformers as t

    torch.manual_seed(0)
    backbone = t.VitPoseBackboneConfig(
        image_size=[64, 48], patch_size=[16, 16], hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_experts=experts, part_features=8, out_indices=[2],
    )  # fmt: skip
    config = t.VitPoseConfig(backbone_config=backbone, num_labels=points, scale_factor=4)
    t.VitPoseForPoseEstimation(config).save_pretrained(folder)
    t.VitPoseImageProcessor(size={"height": 64, "width": 48}).save_pretrained(folder)
    return folder


def save_rtmpose(path: Path, points: int = 17, size: tuple[int, int] = (192, 256)) -> Path:
    """An ONNX file with RTMPose's inputs and outputs that finds every point at the brightest column and row of red."""
    import onnx
    from onnx import TensorProto, helper

    width, height = size
    shape = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, height, width])
    outputs = [
        helper.make_tensor_value_info("simcc_x", TensorProto.FLOAT, ["N", points, 2 * width]),
        helper.make_tensor_value_info("simcc_y", TensorProto.FLOAT, ["N", points, 2 * height]),
    ]
    constants = {
        "zero": np.array([0], np.int64), "one": np.array([1], np.int64), "channel": np.array([1], np.int64),
        "twice": np.array([1, 1, 2], np.float32), "all": np.array([1, points, 1], np.int64),
    }  # fmt: skip
    nodes = [helper.make_node("Slice", ["input", "zero", "one", "channel"], ["red"])]
    for axis, name in ((2, "x"), (3, "y")):
        nodes += [
            helper.make_node("ReduceMax", ["red"], [f"line_{name}"], axes=[axis], keepdims=0),  # (N,1,length)
            helper.make_node("Resize", [f"line_{name}", "", "twice"], [f"fine_{name}"], mode="nearest"),
            helper.make_node("Tile", [f"fine_{name}", "all"], [f"simcc_{name}"]),
        ]
    held = [helper.make_tensor(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape, v) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "tiny", [shape], outputs, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
