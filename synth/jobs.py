"""Jobs: what an image engine is asked to make, as data that can be kept, sent to another machine and named for ever.

A job is one picture, or one clip whose frames show one motion. It brings everything that decides the result apart from
the engine: poses, camera, words, whose appearance and place to take, and the seed. The labels follow from it alone, so
two engines that are given the same job make different pictures with the same labels.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from human.errors import PosesynError
from synth.scene import SceneSpec

_FORMAT = 1


@dataclass(frozen=True)
class Prompt:
    """Words for engines that listen to them; an empty one is left out of the text.

    Attributes:
        caption: one sentence about the motion or the picture.
        gender: "man", "woman", "boy", ... as the engine's template wants it.
        action: what the person does, after "A {gender}".
        environment: where: "in a park".
    """

    caption: str = ""
    gender: str = ""
    action: str = ""
    environment: str = ""


@dataclass(frozen=True)
class Reference:
    """The person whose appearance is reused.

    Attributes:
        id: of the sample in the mined data.
        image: (H,W,3) uint8 RGB.
        body: how the person stands in that picture: one row; None where it is not known.
    """

    id: str
    image: np.ndarray
    body: SceneSpec | None = None


@dataclass(frozen=True)
class Canvas:
    """The whole picture of a clip, of which each row of a job's scene is a crop.

    Attributes:
        intrinsics: (3,3) pixels; the same camera as the rows', so that a crop is a scaling and a shift of the canvas.
        width, height: pixels.
    """

    intrinsics: Tensor
    width: int
    height: int


@dataclass(frozen=True)
class Provenance:
    """Where a job comes from; carried to the pool, without influence on the picture."""

    challenge_id: str = ""
    challenge_error: float | None = None
    tpe: str = ""


@dataclass(frozen=True)
class Job:
    """One picture or clip to be made.

    Attributes:
        scene: F rows, CPU: the frames of one motion in order before one camera, or the one row of a picture.
        seed: drives what the engine draws itself. Each row's ``scene.seed`` names its sample.
        canvas: the picture of which the rows' cameras are crops; None: the rows' own pictures are made.
        keep: which rows become samples, in this order.
        fps: frames a second of a clip.
        prompt: words.
        reference: whose appearance is reused; None: the engine invents a person.
        others: further people in the picture, F rows each under the same camera; the labels are not about them.
        provenance: for the pool.
    """

    scene: SceneSpec
    seed: int
    keep: tuple[int, ...] = (0,)
    fps: float = 20.0
    prompt: Prompt = field(default_factory=Prompt)
    reference: Reference | None = None
    others: tuple[SceneSpec, ...] = ()
    canvas: Canvas | None = None
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        frames = len(self.scene)
        if not self.keep or len(set(self.keep)) < len(self.keep) or not all(0 <= k < frames for k in self.keep):
            raise PosesynError(f"a job of {frames} frames keeps {self.keep}: name different frames, 0 to {frames - 1}")
        if any(len(other) != frames for other in self.others):
            raise PosesynError(f"a job of {frames} frames has other people with {[len(o) for o in self.others]} frames")

    @property
    def kept(self) -> SceneSpec:
        """Rows that become samples."""
        return self.scene[list(self.keep)]

    def key(self, engine: str = "") -> str:
        """sha256 (hex) of everything that decides the picture, with ``engine``'s config hash."""
        tensors, words = _flatten(replace(self, provenance=Provenance()))
        digest = hashlib.sha256(json.dumps([engine, words], sort_keys=True).encode())
        for name in sorted(tensors):
            digest.update(name.encode() + str(tensors[name].dtype).encode() + str(tuple(tensors[name].shape)).encode())
            digest.update(tensors[name].contiguous().numpy().tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Written whole or not at all; safetensors, so that reading it runs nothing."""
        tensors, words = _flatten(self)
        partial = path.with_name(f".{path.name}.partial")
        save_file(tensors, partial, metadata={"job": json.dumps(words)})
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Job:
        """Raises :class:`PosesynError` where the file is damaged or no job."""
        try:
            with safe_open(path, "pt") as file:  # type: ignore[no-untyped-call]
                words = json.loads(file.metadata()["job"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if words["format"] != _FORMAT:
                raise PosesynError(f"{path} is a job of format {words['format']}, this posesyn reads {_FORMAT}")
            return _assemble(tensors, words)
        except FileNotFoundError:
            raise PosesynError(f"there is no job at {path}") from None
        except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
            raise PosesynError(f"{path} is not a whole job ({type(error).__name__}: {error}): delete it") from error


def _flatten(job: Job) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, and everything else as JSON-ready values."""
    tensors = _columns("scene", job.scene)
    for i, other in enumerate(job.others):
        tensors |= _columns(f"others.{i}", other)
    reference = None
    if job.reference is not None:
        tensors["reference.image"] = torch.from_numpy(np.ascontiguousarray(job.reference.image))
        if job.reference.body is not None:
            tensors |= _columns("reference.body", job.reference.body)
        reference = job.reference.id
    canvas = None
    if job.canvas is not None:
        tensors["canvas.intrinsics"] = job.canvas.intrinsics.contiguous()
        canvas = [job.canvas.width, job.canvas.height]
    words = {
        "format": _FORMAT,
        "seed": job.seed,
        "keep": list(job.keep),
        "fps": job.fps,
        "prompt": asdict(job.prompt),
        "reference": reference,
        "others": len(job.others),
        "canvas": canvas,
        "provenance": asdict(job.provenance),
    }
    return tensors, words


def _assemble(tensors: dict[str, Tensor], words: dict[str, Any]) -> Job:
    reference = None
    if words["reference"] is not None:
        body = _scene("reference.body", tensors) if "reference.body.betas" in tensors else None
        reference = Reference(words["reference"], tensors["reference.image"].numpy(), body)
    return Job(
        scene=_scene("scene", tensors),
        seed=words["seed"],
        keep=tuple(words["keep"]),
        fps=words["fps"],
        prompt=Prompt(**words["prompt"]),
        reference=reference,
        others=tuple(_scene(f"others.{i}", tensors) for i in range(words["others"])),
        canvas=Canvas(tensors["canvas.intrinsics"], *words["canvas"]) if words["canvas"] else None,
        provenance=Provenance(**words["provenance"]),
    )


def _columns(prefix: str, scene: SceneSpec) -> dict[str, Tensor]:
    named = {f"{prefix}.{f.name}": getattr(scene, f.name) for f in fields(scene)}
    return {name: value.contiguous() for name, value in named.items() if value is not None}


def _scene(prefix: str, tensors: dict[str, Tensor]) -> SceneSpec:
    names = [f.name for f in fields(SceneSpec)]
    return SceneSpec(**{n: tensors[f"{prefix}.{n}"] for n in names if f"{prefix}.{n}" in tensors})
