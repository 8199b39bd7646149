"""Motion files made up in every format that is read, for tests of the readers."""

from __future__ import annotations

import json

import numpy as np
from scipy.spatial.transform import Rotation

# (name, parent, offset in cm, channel order): a standing person, left at +x, arms spread
Joint = tuple[str, str | None, tuple[float, float, float], str]
T_POSE: list[Joint] = [
    ("mixamorig:Hips", None, (0, 95, 0), "ZXY"),
    ("mixamorig:Spine", "mixamorig:Hips", (0, 10, -1), "XYZ"),
    ("mixamorig:Spine1", "mixamorig:Spine", (0, 12, 0), "ZYX"),
    ("mixamorig:Neck", "mixamorig:Spine1", (0, 25, 2), "YXZ"),
    ("mixamorig:Head", "mixamorig:Neck", (0, 10, 2), "YZX"),
    *(
        (f"mixamorig:{side}{part}", f"mixamorig:{parent.format(side)}", (x * sign, y, z), order)
        for side, sign in (("Left", 1), ("Right", -1))
        for part, parent, (x, y, z), order in (
            ("UpLeg", "Hips", (9, -6, 0), "XZY"), ("Leg", "{}UpLeg", (0, -41, 1), "ZXY"),
            ("Foot", "{}Leg", (1, -42, -2), "ZYX"), ("ToeBase", "{}Foot", (0, -7, 13), "XYZ"),
            ("Shoulder", "Spine1", (6, 20, 0), "ZXY"), ("Arm", "{}Shoulder", (12, 0, -1), "YXZ"),
            ("ForeArm", "{}Arm", (28, 0, 0), "XYZ"), ("Hand", "{}ForeArm", (25, 1, 0), "ZXY"),
        )
    ),
]  # fmt: skip


def hanging(joints: list[Joint]) -> list[Joint]:
    """The same person with hanging arms as rest pose."""
    out = []
    for name, parent, (x, y, z), order in joints:
        down = name.endswith(("ForeArm", "Hand"))
        out.append((name, parent, (-y if x > 0 else y, -abs(x), z) if down else (x, y, z), order))
    return out


def z_up(joints: list[Joint]) -> list[Joint]:
    return [(name, parent, (x, -z, y), order) for name, parent, (x, y, z), order in joints]


def renamed(joints: list[Joint], table: dict[str, str]) -> list[Joint]:
    new = {}
    for name, *_ in joints:
        plain = name.removeprefix("mixamorig:")
        side = next((s for s in ("Left", "Right") if plain.startswith(s)), "")
        part = plain.removeprefix(side)
        new[name] = table.get(part, part).format(side=side.lower(), s=side[:1].lower(), S=side[:1], Side=side)
    return [(new[n], new[p] if p else None, o, r) for n, p, o, r in joints]


def bvh_text(joints: list[Joint], frames_deg: np.ndarray, seconds: float = 1 / 60) -> str:
    """``frames_deg``: (N, joints, 3) Euler angles in each joint's channel order; the hips move by one unit a frame."""
    children: dict[str | None, list[Joint]] = {}
    for joint in joints:
        children.setdefault(joint[1], []).append(joint)
    lines, order = ["HIERARCHY"], []

    def write(joint: Joint, depth: int) -> None:
        name, parent, offset, rotation = joint
        tab = "\t" * depth
        order.append(joints.index(joint))
        position = "Xposition Yposition Zposition " if parent is None else ""
        channels = position + " ".join(f"{a}rotation" for a in rotation)
        lines.extend([f"{tab}{'ROOT' if parent is None else 'JOINT'} {name}", f"{tab}{{"])
        lines.append(f"{tab}\tOFFSET {offset[0]} {offset[1]} {offset[2]}")
        lines.append(f"{tab}\tCHANNELS {len(channels.split())} {channels}")
        for child in children.get(name, []):
            write(child, depth + 1)
        if name not in children:
            lines.extend([f"{tab}\tEnd Site", f"{tab}\t{{", f"{tab}\t\tOFFSET 0 0 5", f"{tab}\t}}"])
        lines.append(f"{tab}}}")

    write(joints[0], 0)
    lines += ["MOTION", f"Frames: {len(frames_deg)}", f"Frame Time: {seconds:.7f}"]
    for n, frame in enumerate(frames_deg):
        place = np.array(joints[0][2]) + n
        lines.append(" ".join(f"{v:.6f}" for v in [*place, *frame[order].reshape(-1)]))
    return "\r\n".join(lines) + "\r\n"


ASF = """# a comment
:version 1.10
:name test
:units
  mass 1.0
  length 0.45
  angle deg
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
{bones}:hierarchy
  begin
    root lhipjoint rhipjoint lowerback
    lhipjoint lfemur
    lfemur ltibia
    ltibia lfoot
    rhipjoint rfemur
    rfemur rtibia
    rtibia rfoot
    lowerback lhumerus rhumerus
    lhumerus lradius
    rhumerus rradius
  end
"""


def asf_text() -> str:
    bones = ""
    for name, way, length, axis, dof in [
        ("lowerback", (0, 1, 0), 8, (0, 0, 0), "rx ry rz"),
        *((f"{s}{n}", (x * k, y, z), length, (ax, 0, az * k), dof)
          for s, k in (("l", 1), ("r", -1))
          for n, (x, y, z), length, (ax, az), dof in (
              ("hipjoint", (0.8, -0.6, 0), 2.0, (0, 0), ""), ("femur", (0.34, -0.94, 0), 7.2, (0, 20), "rx ry rz"),
              ("tibia", (0.34, -0.94, 0), 7.5, (0, 20), "rx"),
              ("foot", (0.07, -0.18, 0.98), 2.4, (-90, 20), "rx rz"),
              ("humerus", (1, 0, 0), 5.0, (180, 90), "rx ry rz"),
              ("radius", (1, 0, 0), 3.4, (180, 90), "rx"))),
    ]:  # fmt: skip
        bones += f"  begin\n     id 1\n     name {name}\n     direction {way[0]} {way[1]} {way[2]}\n"
        bones += f"     length {length}\n     axis {axis[0]} {axis[1]} {axis[2]}   XYZ\n"
        bones += f"    dof {dof}\n    limits (-160.0 20.0)\n" if dof else ""
        bones += "  end\n"
    return ASF.format(bones=bones)


def amc_text(frames: list[dict[str, list[float]]]) -> str:
    lines = ["#!OML:ASF test.asf", ":FULLY-SPECIFIED", ":DEGREES"]
    for number, frame in enumerate(frames, 1):
        lines += [str(number), *(f"{bone} {' '.join(map(str, values))}" for bone, values in frame.items())]
    return "\n".join(lines) + "\n"


def amc_frame(**angles: list[float]) -> dict[str, list[float]]:
    bones = {"root": 6, "lowerback": 3, "lhumerus": 3, "lradius": 1, "rhumerus": 3, "rradius": 1, "lfemur": 3,
             "ltibia": 1, "lfoot": 2, "rfemur": 3, "rtibia": 1, "rfoot": 2}  # fmt: skip
    return {bone: angles.get(bone, [0.0] * n) for bone, n in bones.items()}


def amass_arrays(n: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    poses = rng.normal(0, 0.3, (n, 156))
    poses[:, :3] = Rotation.from_euler("x", 90, degrees=True).as_rotvec()  # upright where z is up
    return {
        "poses": poses, "trans": np.tile([1.0, 2.0, 0.9], (n, 1)), "betas": np.zeros(16), "dmpls": np.zeros((n, 8)),
        "gender": np.array("male"), "mocap_framerate": np.array(100.0),
    }  # fmt: skip


def deepmimic_text(n: int = 11) -> str:
    frame = np.random.default_rng(3).normal(size=(n, 44))
    frame[:, 0] = 1 / 60
    return json.dumps({"Loop": "wrap", "Frames": frame.tolist()})
