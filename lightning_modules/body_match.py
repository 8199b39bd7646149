"""Whether weights speak of the estimator's body: on another one, the same shape and pose are another person.

Our checkpoints say which body they were trained with. Those of the papers' codes are SMPL's, and many hold it.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from human.body import BodyModel
from human.errors import PosesynError

#: Where a checkpoint says it: a mapping with ``name`` and ``hash``.
KEY = "posesyn_body"
#: What the papers' codes call the template of the body that they keep beside the weights (m).
_TEMPLATES = ("smpl.v_template", "human_model_layer.th_v_template")
#: Templates of one body in two files differ by rounding; two bodies', by centimetres.
_SAME = 1e-3


def body_hash(body: BodyModel) -> str:
    """16 hex digits that name the body: its template, shape directions and rest joints."""
    digest = hashlib.sha256()
    for value in (body.v_template, body.shapedirs, body.J_template):
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def body_note(name: str, body: BodyModel) -> dict[str, str]:
    """What a checkpoint holds under :data:`KEY`."""
    return {"name": name, "hash": body_hash(body)}


def stored_note(path: Path) -> Mapping[str, Any] | None:
    """The note of a file of weights; None where it has none."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                found = file.metadata() or {}
            return {"name": found[f"{KEY}.name"], "hash": found[f"{KEY}.hash"]} if f"{KEY}.hash" in found else None
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (UnpicklingError, SafetensorError):  # other objects beside the weights: not one of ours
        return None
    note = content.get(KEY) if isinstance(content, Mapping) else None
    return note if isinstance(note, Mapping) else None


def check_note(note: Mapping[str, Any] | None, name: str, body: BodyModel, where: str) -> None:
    """:class:`PosesynError` where weights with this note were trained with another body than ``body``, called
    ``name``; ``where``: whose weights.
    """
    if note is not None and note.get("hash") != body_hash(body):
        raise PosesynError(_refusal(where, str(note.get("name")), name))


def check_upstream(state: Mapping[str, Tensor], name: str, body: BodyModel, where: str) -> None:
    """The same for the papers' checkpoints, ``state`` under their own names: they speak of SMPL, and where they hold
    its template it must be the body's.
    """
    if getattr(body, "kind", None) != "smpl":
        raise PosesynError(_refusal(where, "smpl", name))
    for key, value in state.items():
        if key.removeprefix("module.") in _TEMPLATES:
            template = value.detach().float().cpu().reshape(-1, 3)
            own = body.v_template.cpu()
            if template.shape != own.shape or not bool(((template - own).abs() < _SAME).all()):
                raise PosesynError(_refusal(where, "smpl, of another gender or file", name))


def _refusal(where: str, theirs: str, ours: str) -> str:
    return (
        f"{where} was trained with another body ({theirs}) than this estimator's ({ours}): set model.body to it, or "
        "model.other_body to true to train the weights for this body (docs/tpe.md)"
    )
