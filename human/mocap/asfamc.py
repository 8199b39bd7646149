"""Acclaim skeletons and motions (.asf + .amc), as the CMU motion capture database has them.

An ASF bone has a rest direction and length in the skeleton's axes and its own axes ``C``; an AMC frame gives the
turn ``M`` about these, so the bone's turn from rest, in its parent's axes, is C M C^-1. Turns are about fixed axes,
the first listed first. Lengths are inches times the file's ``length`` unit (CMU: 0.45).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from human.errors import PosesynError
from human.mocap.clip import Motion
from human.mocap.retarget import Rig, retarget

_INCH = 0.0254
CMU_FPS = 120.0  # the format has no frame rate


@dataclass(frozen=True)
class Bone:
    """A bone (or the root): unit ``direction`` (3,), ``length`` in file units, own ``axes``, channels ``dof``."""

    name: str
    direction: np.ndarray
    length: float
    axes: Rotation
    dof: tuple[str, ...]


@dataclass(frozen=True)
class Asf:
    """A skeleton: bones with the root first, each bone's parent, metres per unit, and whether angles are degrees."""

    bones: tuple[Bone, ...]
    parents: tuple[int, ...]
    unit: float
    degrees: bool


def read_amc(path: str | Path, asf: str | Path | None = None, fps: float = CMU_FPS) -> Motion:
    """Read and retarget one motion.

    Args:
        asf: its skeleton; None takes the ``.asf`` beside it whose name the motion's begins with, or the only one.
    """
    path = Path(path)
    skeleton = read_asf(asf or _skeleton_of(path))
    rig = read_amc_rig(path, skeleton)
    try:
        pose, root, place = retarget(rig, skeleton.unit)
    except PosesynError as error:
        raise PosesynError(f"{path}: {error}") from error
    return Motion(pose, root, place, fps, path.stem)


def read_asf(path: str | Path) -> Asf:
    """Read a skeleton."""
    path = Path(path)
    sections = _sections(_lines(path))
    try:
        units = dict(line.split()[:2] for line in sections["units"] if len(line.split()) >= 2)
        degrees = units.get("angle", "deg").lower().startswith("deg")
        bones = [_root(sections["root"], degrees)]
        begin: list[str] | None = None
        for line in sections["bonedata"]:
            if line == "begin":
                begin = []
            elif line == "end":
                bones.append(_bone(begin or [], degrees))
                begin = None
            elif begin is not None:
                begin.append(line)
        if begin is not None:
            raise ValueError("the last bone has no end")
        order, parents = _tree(sections["hierarchy"], [b.name for b in bones])
    except (KeyError, ValueError, IndexError) as error:
        raise PosesynError(f"{path} is not a valid ASF skeleton: {type(error).__name__} {error}") from None
    return Asf(tuple(bones[i] for i in order), parents, _INCH / float(units.get("length", 1.0)), degrees)


def read_amc_rig(path: str | Path, asf: Asf) -> Rig:
    """A motion on its skeleton, as a rig in the skeleton's own axes and units."""
    path = Path(path)
    index = {b.name: i for i, b in enumerate(asf.bones)}
    frames: list[dict[str, list[float]]] = []
    try:
        for line in _lines(path):
            name, *numbers = line.split()
            if name.startswith((":", "#")):
                if name.upper() == ":RADIANS" and asf.degrees:
                    raise ValueError("angles are in radians, the skeleton's in degrees")
            elif not numbers and name.isdigit():
                frames.append({})
            else:
                frames[-1][name] = [float(v) for v in numbers]
        values = []
        for bone in asf.bones:
            width = len(bone.dof)
            rows = np.array([f[bone.name] for f in frames] if width else np.zeros((len(frames), 0)), np.float64)
            if rows.shape != (len(frames), width):
                raise ValueError(f"{bone.name} has {rows.shape[1:]} numbers a frame, the skeleton says {width}")
            values.append(rows)
        if unknown := set(frames[0]) - set(index):
            raise ValueError(f"{sorted(unknown)[0]!r} is no bone of the skeleton")
    except (KeyError, ValueError, IndexError) as error:
        raise PosesynError(
            f"{path} is not a valid AMC motion for its skeleton: {type(error).__name__} {error}"
        ) from None
    if not all(np.isfinite(v).all() for v in values):
        raise PosesynError(f"{path} holds numbers that are not finite")

    rotations = np.tile(np.eye(3), (len(frames), len(asf.bones), 1, 1))
    for j, (bone, rows) in enumerate(zip(asf.bones, values, strict=True)):
        turns = [(d[1], c) for c, d in enumerate(bone.dof) if d[0] == "r"]
        if turns:
            # lower case: about fixed axes, in the order listed
            order, columns = "".join(t[0] for t in turns), [t[1] for t in turns]
            motion = Rotation.from_euler(order, rows[:, columns], degrees=asf.degrees)
            rotations[:, j] = (bone.axes * motion * bone.axes.inv()).as_matrix()
    place = np.zeros((len(frames), 3))
    for c, name in enumerate(asf.bones[0].dof):
        if name[0] == "t":
            place[:, "xyz".index(name[1])] = values[0][:, c]
    reach = np.array([b.direction * b.length for b in asf.bones])
    offsets = np.array([reach[p] if p >= 0 else np.zeros(3) for p in asf.parents])
    return Rig(tuple(b.name for b in asf.bones), asf.parents, offsets, reach, rotations, place)


def _skeleton_of(path: Path) -> Path:
    found = sorted(p for p in path.parent.glob("*") if p.suffix.lower() == ".asf")
    named = [p for p in found if path.stem.startswith(p.stem)]
    if named:
        return max(named, key=lambda p: len(p.stem))
    if len(found) == 1:
        return found[0]
    raise PosesynError(f"{path} needs its skeleton: put the .asf whose name the motion's begins with beside it")


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise PosesynError(f"there is no file {path}")
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return [line for line in lines if line]


def _sections(lines: list[str]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        if line.startswith(":"):
            name, _, rest = line[1:].partition(" ")
            out[name] = [rest] if rest else []
        elif name:
            out[name].append(line)
    return out


def _axes(words: list[str], degrees: bool) -> Rotation:
    """Three angles and the order in which the turns about the fixed axes are made."""
    return Rotation.from_euler(words[3].lower(), [float(w) for w in words[:3]], degrees=degrees)


def _root(lines: list[str], degrees: bool) -> Bone:
    values = {line.split()[0]: line.split()[1:] for line in lines}
    axes = _axes([*values["orientation"], values.get("axis", ["XYZ"])[0]], degrees)
    return Bone("root", np.zeros(3), 0.0, axes, tuple(w.lower() for w in values["order"]))


def _bone(lines: list[str], degrees: bool) -> Bone:
    values = {line.split()[0]: line.split()[1:] for line in lines}
    direction = np.array([float(w) for w in values["direction"]])
    return Bone(
        values["name"][0],
        direction / np.linalg.norm(direction),
        float(values["length"][0]),
        _axes(values["axis"], degrees),
        tuple(w.lower() for w in values.get("dof", [])),
    )


def _tree(lines: list[str], names: list[str]) -> tuple[list[int], tuple[int, ...]]:
    """Bones in an order in which parents come first, and each one's parent in that order."""
    parent = {child: line.split()[0] for line in lines if line not in ("begin", "end") for child in line.split()[1:]}
    if lost := [n for n in names if n != "root" and n not in parent]:
        raise ValueError(f"bone {lost[0]!r} is not in the hierarchy")
    order = ["root"]
    for name in order:
        order += [n for n in names if parent.get(n) == name]
    if len(order) != len(names):
        raise ValueError("some bones do not hang from the root")
    return [names.index(n) for n in order], tuple(order.index(parent[n]) if n != "root" else -1 for n in order)
