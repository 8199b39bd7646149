"""``posesyn export``: an estimator as one file that runs without posesyn, checked against the estimator itself.

    posesyn export --config runs/quickstart/version_0/config.yaml --ckpt last.ckpt --format onnx --out estimator.onnx

Input ``image`` (B,3,S,S) uint8 RGB crops, and what else the estimator looks at (``intrinsics`` (B,3,3) for one whose
camera is the picture's). Outputs, float32, units and frames of ``human.prediction.Prediction``: ``rotations``
(B,24,3,3), the root first; ``betas`` (B,10); ``transl`` (B,3) under ``camera`` (B,3,3); ``joints3d`` (B,32,3);
``joints2d`` (B,32,2).
"""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cli.estimator import config_of, load_estimator
from human.batch import PoseBatch
from human.errors import PosesynError
from lightning_modules.base import PoseEstimator

#: What of a batch an estimator may look at when it predicts; those it does not are no inputs of the exported file.
INPUTS = ("image", "intrinsics", "joints2d", "joints2d_conf")
OUTPUTS = ("rotations", "betas", "transl", "camera", "joints3d", "joints2d")
FORMATS = {"torch": ".pt2", "onnx": ".onnx"}
#: Largest difference from eager that is let pass, over the largest number of that output.
TOLERANCE = 1e-3
OPSET = 20


class Exported(nn.Module):
    """An estimator from tensors to tensors; ``names``: the fields of the batch that are its arguments."""

    def __init__(self, estimator: PoseEstimator, names: Sequence[str]) -> None:
        super().__init__()
        self.estimator, self.names = estimator, tuple(names)
        # One sample without labels; its rows are repeated for as many pictures as come.
        self.blank = PoseBatch.blank(1, estimator.image_size).as_dict()

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.names, values, strict=True))
        rows = given["image"].shape[0]
        rest = {n: v.expand(rows, *v.shape[1:]) for n, v in self.blank.items() if n not in given}
        out = self.estimator.solve(PoseBatch(**given, **rest))
        return out.rotations, out.betas, out.transl, out.intrinsics, out.joints3d, out.joints2d


def example(size: int, rows: int, seed: int = 0) -> dict[str, Tensor]:
    """Inputs of every kind: noise for pictures, a camera before the crop's middle, joints in the crop."""
    generator = torch.Generator().manual_seed(seed)
    focal, middle = (4.0 + seed) * size, (size - 1) / 2
    camera = torch.tensor([[focal, 0, middle], [0, focal, middle + 10 * seed], [0, 0, 1]])
    return {
        "image": torch.randint(0, 256, (rows, 3, size, size), generator=generator, dtype=torch.uint8),
        "intrinsics": camera.expand(rows, 3, 3).clone(),
        "joints2d": torch.rand(rows, 32, 2, generator=generator) * (size - 1),
        "joints2d_conf": (torch.rand(rows, 32, generator=generator) < 0.9).float(),
    }


def inputs_of(estimator: PoseEstimator) -> tuple[str, ...]:
    """The fields of a batch whose numbers change what the estimator predicts; the picture always."""
    one, other = example(estimator.image_size, 2), example(estimator.image_size, 2, seed=1)
    before = Exported(estimator, INPUTS)(*one.values())
    out = ["image"]
    for name in INPUTS[1:]:
        after = Exported(estimator, INPUTS)(*{**one, name: other[name]}.values())
        if any(not torch.equal(a, b) for a, b in zip(before, after, strict=True)):
            out.append(name)
    return tuple(out)


@torch.no_grad()
def trace(estimator: PoseEstimator) -> tuple[torch.export.ExportedProgram, tuple[str, ...]]:
    """The estimator (in eval mode, on the CPU) as a program for any number of pictures, and its inputs' names."""
    names = inputs_of(estimator)
    return _trace(estimator, names), names


def _trace(estimator: PoseEstimator, names: Sequence[str]) -> torch.export.ExportedProgram:
    inputs = example(estimator.image_size, 2)
    rows = torch.export.Dim("batch", min=1, max=4096)
    module, arguments = Exported(estimator, names), tuple(inputs[n] for n in names)
    shapes = (tuple({0: rows} for _ in names),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # Strict: only Dynamo takes the length of a tensor for something that varies.
            return torch.export.export(module, arguments, dynamic_shapes=shapes, strict=True)
        except torch._dynamo.exc.Unsupported:
            return torch.export.export(module, arguments, dynamic_shapes=shapes, strict=False)


def export(estimator: PoseEstimator, path: Path, kind: str = "torch") -> dict[str, float]:
    """Write the file, run it on other pictures than it was traced with, and compare (:func:`compare`).

    Raises:
        PosesynError: unknown format, a package is missing, the estimator cannot be traced, or the file differs.
    """
    if kind not in FORMATS:
        raise PosesynError(f"export --format {kind}: choose one of {', '.join(FORMATS)}")
    if kind == "onnx":
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise PosesynError(
                f"export --format onnx needs {error.name}: run `pip install 'posesyn[export]'`"
            ) from None
    estimator = estimator.eval().cpu().requires_grad_(False)
    try:
        program, names = trace(estimator)
        write(program, names, estimator, path, kind)
    # Tracers raise whatever the traced code and they themselves raise.
    except Exception as error:
        reason: BaseException = error
        while reason.__cause__ is not None:  # the first one says which operation
            reason = reason.__cause__
        first = str(reason).strip().splitlines()
        raise PosesynError(
            f"{type(estimator).__name__} cannot be exported to {kind} ({type(reason).__name__}: "
            f"{first[0][:300] if first else ''})"
        ) from error
    return compare(estimator, path, kind, names)


def write(
    program: torch.export.ExportedProgram, names: Sequence[str], estimator: PoseEstimator, path: Path, kind: str
) -> None:
    """The program as a file, with a JSON note "posesyn" on what it is."""
    about = {
        "estimator": type(estimator).__name__,
        "weights": estimator.weights_hash(),
        "image_size": estimator.image_size,
        "inputs": list(names),
        "outputs": list(OUTPUTS),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "torch":
            torch.export.save(program, path, extra_files={"posesyn.json": json.dumps(about)})
        else:
            _write_onnx(program, names, path, about)


def _write_onnx(
    program: torch.export.ExportedProgram, names: Sequence[str], path: Path, about: Mapping[str, Any]
) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    made = torch.onnx.export(
        program,
        input_names=list(names),
        output_names=list(OUTPUTS),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert made is not None
    made.model.metadata_props["posesyn"] = json.dumps(about)
    # Protobuf holds no more than 2 GB: larger weights lie in a file of their own, PATH.data.
    weights = sum(p.numel() * p.element_size() for p in program.state_dict.values())
    made.save(str(path), external_data=weights > 1.5e9)


@torch.no_grad()
def compare(estimator: PoseEstimator, path: Path, kind: str, names: Sequence[str]) -> dict[str, float]:
    """The file against the estimator, on three pictures that it was not traced with.

    Returns:
        The largest difference in each output, over that output's largest number.

    Raises:
        PosesynError: a difference is more than ``TOLERANCE``.
    """
    inputs = example(estimator.image_size, 3, seed=2)
    wanted = Exported(estimator, names)(*(inputs[n] for n in names))
    got: Sequence[Any]
    if kind == "torch":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            got = torch.export.load(path).module()(*(inputs[n] for n in names))
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        got = session.run(list(OUTPUTS), {n: inputs[n].numpy() for n in names})
    differences = {}
    for name, a, b in zip(OUTPUTS, wanted, got, strict=True):
        b = torch.as_tensor(b)
        if a.shape != b.shape:
            raise PosesynError(f"export: {path} gives {name} of {tuple(b.shape)}, the estimator {tuple(a.shape)}")
        differences[name] = float((a - b).abs().max() / a.abs().max().clamp_min(1e-6))
    worst = max(differences, key=lambda n: differences[n])
    if not differences[worst] <= TOLERANCE:
        raise PosesynError(
            f"export: {path} differs from the estimator by {differences[worst]:.2g} in {worst} (allowed {TOLERANCE:g}, "
            "relative): do not use that file, and report it"
        )
    return differences


def run(argv: Sequence[str]) -> None:
    """``posesyn export``."""
    parser = argparse.ArgumentParser(
        prog="posesyn export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ckpt", help="weights; default: those that the config names")
    parser.add_argument("--config", type=Path, help="the run's config.yaml; default: the one beside the checkpoint")
    parser.add_argument("--format", choices=sorted(FORMATS), default="torch", help="torch.export's .pt2, or ONNX")
    parser.add_argument("--out", type=Path, help="file to write; default: estimator.pt2 or estimator.onnx")
    args = parser.parse_args(argv)
    if args.config is None and args.ckpt is None:
        raise PosesynError("export: say --ckpt FILE, --config FILE or both")
    estimator = load_estimator(args.config or config_of(Path(args.ckpt)), args.ckpt)
    out = args.out or Path(f"estimator{FORMATS[args.format]}")
    differences = export(estimator, out, args.format)
    worst = max(differences, key=lambda n: differences[n])
    print(f"{out}: {type(estimator).__name__}, within {differences[worst]:.1e} of eager ({worst}, relative)")
