"""Protocols as objects: everything that a pose figure depends on besides the estimator, named and hashed.

"MPJPE is not one number": the joints, how they come from a mesh, the root, the ground truth's body and gender, the
frames counted, the normaliser and the way of averaging each move it by more than the papers' gains.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from human.errors import PosesynError
from human.registry import Registry

#: Where joints come from:
#: "labels": the data set's own (native3d / native2d), by name; of a prediction: its own joints of those names;
#: "kinematic": the body model's posed joints (POSE32's names; the first 24 are SMPL's);
#: "h36m", "extra", "j19": rows of the published regressors on posed vertices (``human.regressors``);
#: "posed24": SMPL's own J_regressor (24) on *posed* vertices, that of the body's gender; "neutral24": the neutral one;
#: "smplx": SMPL-X's own 55 posed joints (names of the skeleton "smplx55"); "vertices": points of the mesh, by number.
SOURCES = ("labels", "kinematic", "h36m", "extra", "j19", "posed24", "neutral24", "smplx", "vertices")
AVERAGES = ("person", "label", "joint", "group")


@dataclass(frozen=True)
class Joints:
    """``names`` of the evaluated joints, in order, and their ``source`` (:data:`SOURCES`)."""

    source: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """A figure of a paper under this protocol: ``metric`` as in ``Protocol.metrics``, ``value`` in its unit."""

    method: str
    metric: str
    value: float
    source: str


@dataclass(frozen=True)
class Protocol:
    """How one figure, or several on the same joints, is computed.

    Args:
        name: "SET/CODE BASE".
        dataset, split: the reader and its split; ``options``: further arguments of the reader.
        metrics: names in ``metrics.measures.MEASURES``; "pck@0.2" gives a threshold.
        truth, prediction: the joints compared, pairwise: as many names on both sides.
        root: joints (of the sources, also such as are not compared) whose mean is the origin; () compares as they are.
        truth_body: "own" (the annotation's body and gender), "neutral" (its kind, gender ignored).
        truth_as: convert the truth's mesh to this kind before joints and errors are taken ("smpl" for SMPL-X truth).
        keep: conditions (column, operator, value) on the truth's columns; operators "==", "in", ">=", "every" (number
            is a multiple of value), "least" (that many joints with confidence in the column), "labelled" (each of the
            joints at these places has confidence).
        normaliser: length that 2D errors are divided by: "px", "head", "torso", "torso_or_predicted", "box" (longer
            side of the tight box), "bbox" (longer side of the set's own box), "crop" (the set's own square).
        normaliser_scale: factor on it.
        weights: whether labels count by their "confidence" or all alike ("mask").
        states: values of the column "state" that count; () counts every label.
        average: over "person"s, over all "label"s, or the mean over "joint"s of each joint's mean, or over the "group"s
            (the truth's column, numbers below ``settings["groups"]``) of each group's persons' mean.
        cluster: what confidence intervals resample: "person", "picture" or "sequence".
        matching: "given" (by id), or a name in ``metrics.matching``.
        settings: what single measures take (``metrics.measures``).
        source: repository:path or paper that the definition was read in.
        published: figures of papers.
        note: what a reader of the figure should know.
    """

    name: str
    dataset: str
    split: str
    metrics: tuple[str, ...]
    truth: Joints
    prediction: Joints
    source: str
    root: tuple[str, ...] = ()
    prediction_root: tuple[str, ...] | None = None
    truth_body: str = "own"
    truth_as: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    keep: tuple[tuple[str, str, Any], ...] = ()
    normaliser: str = "px"
    normaliser_scale: float = 1.0
    weights: str = "mask"
    states: tuple[int, ...] = ()
    average: str = "person"
    cluster: str = "picture"
    matching: str = "given"
    settings: Mapping[str, Any] = field(default_factory=dict)
    published: tuple[Published, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        for side in (self.truth, self.prediction):
            if side.source not in SOURCES:
                raise PosesynError(f"protocol {self.name}: no source of joints is called {side.source!r}")
        if len(self.truth.names) != len(self.prediction.names):
            raise PosesynError(f"protocol {self.name} compares {len(self.truth.names)} joints with "
                               f"{len(self.prediction.names)}")  # fmt: skip
        if self.average not in AVERAGES:
            raise PosesynError(f"protocol {self.name}: average={self.average!r}; known: {', '.join(AVERAGES)}")

    @property
    def hash(self) -> str:
        """12 hex digits that name the definition: same digits, same figure. Papers' figures and notes do not count."""
        facts = asdict(replace(self, options=dict(self.options), settings=dict(self.settings)))
        for words in ("published", "note", "source", "name"):
            facts.pop(words)
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=list).encode()).hexdigest()[:12]

    def describe(self) -> str:
        """The definition in a few lines."""
        root = " + ".join(self.root) or "none"
        joints = f"{len(self.truth.names)} of {self.truth.source}, predicted: {self.prediction.source}"
        lines = [
            f"{self.name} [{self.hash}]: {', '.join(self.metrics)} on {self.dataset} ({self.split})",
            f"  joints: {joints}; root {root}",
        ]
        if self.truth.source != "labels":
            gender = "of the annotated gender" if self.truth_body == "own" else "neutral"
            lines.append(f"  ground-truth body: {gender}{f', as {self.truth_as}' if self.truth_as else ''}")
        if any(m.startswith(("pck", "auc2d")) for m in self.metrics):
            lines.append(f"  normaliser: {self.normaliser_scale:g} x {self.normaliser}; average over {self.average}s")
        if self.keep:
            lines.append("  kept: " + ", ".join(f"{c} {op} {v}" for c, op, v in self.keep))
        lines.append(f"  from {self.source}" + (f"; {self.note}" if self.note else ""))
        return "\n".join(lines)


PROTOCOLS: Registry[Protocol] = Registry("protocol")


def protocol(**facts: Any) -> Protocol:
    """A registered :class:`Protocol`."""
    made = Protocol(**facts)
    PROTOCOLS.register(made.name)(made)
    return made


def protocols_of(dataset: str) -> list[Protocol]:
    """The registered protocols of a data set, by name."""
    return [p for p in (PROTOCOLS.get(name) for name in PROTOCOLS) if p.dataset == dataset]
