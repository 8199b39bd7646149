"""A body and its clothes as one mesh: posed by the body's parameters, then draped by an outfit.

The free body wears shells of its wardrobe: two copies of the tights (an inner and an outer layer), a skirt and hair.
Which part of a shell is worn is a scalar per vertex that the rasteriser cuts along, so borders are clean curves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from human.body import BodyModel
from human.detail import Detail
from human.errors import PosesynError
from human.raster import vertex_normals
from human.wardrobe import Shell, load_wardrobe
from synth.outfit import Outfit
from synth.surface import FIELDS, BodySurface

#: Layers of the drawn mesh.
LAYERS = ("body", "bottom", "top", "skirt", "hair")
_SHELL_OF_LAYER = {1: "tights", 2: "tights", 3: "skirt", 4: "hair"}
_INFLUENCES = 6


@dataclass(frozen=True)
class _Piece:
    """One layer of the mesh; ``name`` is what it is a copy of."""

    layer: int
    name: str
    shell: Shell
    fields: NDArray[np.float32]
    uv: NDArray[np.float32]


class DressedBody(nn.Module):
    """The drawn mesh: layer 0 is the body (vertex for vertex and face for face, or coarser); the shells follow.

    Attributes:
        body: the :class:`BodyModel`; surface: its rest-pose fields.
        faces: (F,3) int32. layer_V, layer_F: int32, index into :data:`LAYERS`.
        fields_V6: (V,6) float32 rest-pose fields (``synth.surface.FIELDS``). On hair, reach is 1 on the fringe, and
            hair is the rest height in metres, stretched on the fringe so that one ``hem`` cuts both.
        rest_V3, rest_normals_V3: (V,3) metres and unit normals, mean person at rest.
        uv_F32: (F,3,2) float32 texture coordinates, v down: the body's atlas; zero on shells.
        skin_N: (N,) int64, which of the body's vertices the first N are.
    """

    faces: Tensor
    layer_V: Tensor
    layer_F: Tensor
    fields_V6: Tensor
    rest_V3: Tensor
    rest_normals_V3: Tensor
    uv_F32: Tensor
    skin_N: Tensor

    def __init__(
        self, body: BodyModel, wardrobe: Mapping[str, Shell] | None = None, detail: Detail | None = None
    ) -> None:
        """Join the layers.

        Args:
            body: on the CPU, in SMPL's format, pose blend shapes zero.
            wardrobe: shells made for this body; None takes the free body's, {} draws the body alone.
            detail: a coarser mesh for layer 0, made for this body and wardrobe; None draws all of the body.

        Raises:
            PosesynError: the shells were made for another body.
        """
        super().__init__()
        self.body = body
        self.surface = BodySurface(body)
        worn = load_wardrobe() if wardrobe is None else wardrobe
        detail = _whole(body, worn) if detail is None else detail
        pieces = _pieces(body, self.surface, worn, detail)
        starts = np.cumsum([0, *(len(p.fields) for p in pieces)])

        def keep(name: str, parts: list[NDArray], dtype: type = np.float32) -> None:
            value = torch.from_numpy(np.ascontiguousarray(np.concatenate(parts), dtype))
            self.register_buffer(name, value, persistent=False)

        keep("faces", [p.shell.faces + s for p, s in zip(pieces, starts, strict=False)], np.int32)
        keep("layer_V", [np.full(len(p.fields), p.layer) for p in pieces], np.int32)
        keep("layer_F", [np.full(len(p.shell.faces), p.layer) for p in pieces], np.int32)
        keep("fields_V6", [p.fields for p in pieces])
        keep("uv_F32", [p.uv for p in pieces])
        keep("rest_V3", [p.shell.v_template for p in pieces])
        keep("skin_N", [detail.vertices], np.int64)
        keep("_bind", [pieces[0].shell.faces[p.shell.bind_face] for p in pieces], np.int32)
        keep("_bind_bary", [p.shell.bind_bary for p in pieces])
        self.register_buffer("rest_normals_V3", vertex_normals(self.rest_V3[None], self.faces)[0], persistent=False)

        # Copies of one shell are posed once.
        places = {p.name: [s for q, s in zip(pieces, starts, strict=False) if q.name == p.name] for p in pieces}
        once = {p.name: p.shell for p in pieces}
        keep("_template", [s.v_template for s in once.values()])
        keep("_shapedirs", [s.shapedirs.transpose(0, 2, 1) for s in once.values()])
        keep("_weight_joint", [s.weight_joint for s in once.values()], np.int32)
        keep("_weight", [s.weight for s in once.values()])
        target = []
        for name, shell in once.items():
            rows = np.arange(len(shell.v_template))
            second = places[name][1] + rows if len(places[name]) > 1 else np.full(len(rows), -1)
            target.append(np.stack([places[name][0] + rows, second], 1))
        keep("_target", target, np.int32)

        keep("_joint_shapedirs", [body.J_shapedirs.permute(0, 2, 1).numpy()])
        keep("_parents", [np.array(body.parents)], np.int32)
        # What joints are read off is posed for itself: the drawn mesh may lack it.
        used = body.get_buffer("extra_vertices").numpy()
        matrix = body.extra_regressor.numpy()
        index = np.argsort(matrix == 0, axis=1, kind="stable")[:, : int((matrix != 0).sum(1).max())]
        keep("_extra_index", [index], np.int32)
        keep("_extra_weight", [np.take_along_axis(matrix, index, 1)])
        joint, weight = _influences(body, used)
        keep("_extra_template", [body.v_template.numpy()[used]])
        keep("_extra_shapedirs", [body.shapedirs.numpy()[used].transpose(0, 2, 1)])
        keep("_extra_weight_joint", [joint], np.int32)
        keep("_extra_skin_weight", [weight])
        keep("_bounds", [_bounds(self.fields_V6.numpy())])
        ring, ring_starts = _rings(self.faces.numpy(), len(self.rest_V3))
        keep("_ring", [ring], np.int32)
        keep("_ring_starts", [ring_starts], np.int32)

    def pose(
        self, betas: Tensor, body_pose: Tensor, global_orient: Tensor, transl: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """All layers posed but not draped, and the joints of :meth:`BodyModel.joints`.

        Args:
            betas (B,10), body_pose (B,23,3) and global_orient (B,3) rotation vectors, transl (B,3) metres or None.

        Returns:
            verts (B,V,3) and joints (B,32,3), metres; a row's bytes do not depend on the other rows.
        """
        from human import raster_warp as rw
        from synth import pose_kernels as kernels

        count, bones = len(betas), len(self._buffer("_parents"))
        wanted = {
            "betas": (count, self.body.num_betas),
            "body_pose": (count, bones - 1, 3),
            "global_orient": (count, 3),
        }
        transl = global_orient.new_zeros(count, 3) if transl is None else transl
        given = {"betas": betas, "body_pose": body_pose, "global_orient": global_orient, "transl": transl}
        for name, value in given.items():
            shape = wanted.get(name, (count, 3))
            if tuple(value.shape) != shape:
                raise PosesynError(f"dressed body: {name} must have shape {shape}, got {tuple(value.shape)}")
        device = self.faces.device
        values = {k: v.detach().to(device, torch.float32).contiguous() for k, v in given.items()}
        view = self._views()
        extras = len(self._buffer("_extra_index"))
        joints = torch.empty(count, bones + extras, 3, device=device)
        verts = torch.empty(count, len(self.rest_V3), 3, device=device)
        if not count:
            return verts, joints
        rest, world = torch.empty(count, bones, 3, device=device), torch.empty(count, bones, 3, 3, device=device)
        motion = rw.vectors(torch.empty(count, bones, 3, 4, device=device), kernels.mat34)
        shape_BK, joints_wp = rw.wp.from_torch(values["betas"], return_ctype=True), rw.vectors(joints, rw.wp.vec3)
        chain = [shape_BK, *(values[k] for k in ("body_pose", "global_orient", "transl")), *view["chain"]]
        rw.launch(kernels.chain_kernel, count, 1, chain, [rest, world, joints_wp, motion], device)
        skin = [shape_BK, motion, *view["skin"]]
        rw.launch(kernels.skin_kernel, count, len(self._buffer("_template")), skin, [verts], device)
        rw.launch(kernels.regress_kernel, count, extras, [shape_BK, motion, *view["extra"], bones], [joints_wp], device)
        return verts, joints

    def drape(self, verts_BV3: Tensor, outfit: Outfit) -> tuple[Tensor, Tensor, Tensor]:
        """Dress posed vertices.

        Args:
            verts_BV3: from :meth:`pose`, in any right-handed frame.
            outfit: B rows.

        Returns:
            verts (B,V,3) metres; cut (B,V), the mesh is drawn where its interpolation is >= 0 (about metres inside
            a garment's border); unit normals (B,V,3), zero far outside what is drawn. A row's bytes do not depend on
            the other rows; without garments layer 0 keeps its vertices exactly and all else is cut.
        """
        from human import raster_warp as rw
        from synth import drape_kernels as kernels

        shape = (len(outfit), len(self.rest_V3), 3)
        if tuple(verts_BV3.shape) != shape:
            raise PosesynError(f"drape needs vertices of shape {shape} for this outfit, got {tuple(verts_BV3.shape)}")
        device, wp = self.faces.device, rw.wp
        posed = verts_BV3.detach().to(device, torch.float32).contiguous()
        worn = outfit.to(device)
        out, normals = torch.empty_like(posed), torch.empty_like(posed)
        cut = torch.empty(shape[:2], device=device)
        if not len(outfit):
            return out, cut, normals
        view = self._views()
        out_wp, cut_wp = rw.vectors(out, wp.vec3), wp.from_torch(cut, return_ctype=True)
        skin = len(self.skin_N)
        posed_wp = rw.vectors(posed, wp.vec3)
        garments = [wp.from_torch(t.contiguous(), return_ctype=True) for t in (worn.kind, worn.layer)]
        garments.append(rw.vectors(worn.params.contiguous(), kernels.vec8))
        inputs = [posed_wp, skin, *view["fields"], *view["ring"], *garments]
        rw.launch(kernels.drape_skin_kernel, len(out), skin, inputs, [out_wp, cut_wp], device)
        inputs = [posed_wp, skin, *view["layers"], *view["fields"], *view["rest"], *view["ring"], *view["bind"]]
        inputs += [*garments, worn.phase.contiguous()]
        rw.launch(kernels.drape_shell_kernel, len(out), shape[1] - skin, inputs, [out_wp, cut_wp], device)
        rw.launch(
            kernels.normal_kernel, *shape[:2], [out_wp, cut_wp, *view["layers"], *view["ring"]], [normals], device
        )
        return out, cut, normals

    def _views(self) -> dict[str, list[Any]]:
        """What never changes, as Warp arrays by kernel; made once, because making one takes as long as some kernels."""
        known = _known.get(self)
        if known is None or known[0] is not self.faces:  # (moved to another device)
            from human import raster_warp as rw
            from synth import drape_kernels

            wp, body, buffer = rw.wp, self.body, self._buffer
            vec3, number, word = wp.vec3, wp.float32, wp.int32
            kinds: dict[str, list[tuple[Tensor, Any]]] = {
                "chain": [(body.J_template, vec3), (buffer("_joint_shapedirs"), vec3), (buffer("_parents"), word)],
                "skin": [
                    *((buffer(f"_{k}"), vec3) for k in ("template", "shapedirs")),
                    *((buffer(f"_{k}"), kind) for k, kind in (("weight_joint", word), ("weight", number))),
                    (buffer("_target"), word),
                ],
                "extra": [
                    *((buffer(f"_extra_{k}"), vec3) for k in ("template", "shapedirs")),
                    *((buffer(f"_extra_{k}"), kind) for k, kind in (("weight_joint", word), ("skin_weight", number))),
                    *((buffer(f"_extra_{k}"), kind) for k, kind in (("index", word), ("weight", number))),
                ],
                "layers": [(self.layer_V, word)],
                "fields": [(self.fields_V6, drape_kernels.vec6), (buffer("_bounds"), drape_kernels.vec6)],
                "ring": [(buffer("_ring_starts"), word), (buffer("_ring"), word)],
                "rest": [(self.rest_normals_V3, vec3)],
                "bind": [(buffer("_bind"), wp.vec3i), (buffer("_bind_bary"), vec3)],
            }
            known = self.faces, {name: [rw.vectors(*pair) for pair in pairs] for name, pairs in kinds.items()}
            _known[self] = known
        return known[1]

    def _buffer(self, name: str) -> Tensor:
        return self.get_buffer(name)


_known: WeakKeyDictionary[DressedBody, tuple[Tensor, dict[str, list[Any]]]] = WeakKeyDictionary()


def _whole(body: BodyModel, wardrobe: Mapping[str, Shell]) -> Detail:
    """All of the body."""
    vertices = np.arange(len(body.v_template))
    binds = {n: s.bind_face for n, s in wardrobe.items()}, {n: s.bind_bary for n, s in wardrobe.items()}
    return Detail(vertices, body.faces.numpy(), body.faces_uv.numpy(), *binds)


def _influences(body: BodyModel, vertices_N: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """Joints (N,6) and skinning weights (N,6) of some of a body's vertices."""
    weights = body.weights.numpy()[vertices_N]
    joint = np.argsort(-weights, axis=1, kind="stable")[:, :_INFLUENCES]
    weight = np.take_along_axis(weights, joint, 1)
    return joint, weight / weight.sum(1, keepdims=True)


def _pieces(body: BodyModel, surface: BodySurface, wardrobe: Mapping[str, Shell], detail: Detail) -> list[_Piece]:
    """The body as layer 0, then each shell in every layer it serves."""
    kept = detail.vertices
    count = len(kept)
    joint, weight = _influences(body, kept)
    skin = Shell(
        v_template=body.v_template.numpy()[kept],
        shapedirs=body.shapedirs.numpy()[kept],
        faces=detail.faces,
        weight_joint=joint,
        weight=weight,
        bind_face=np.zeros(count, np.int64),
        bind_bary=np.zeros((count, 3), np.float32),
        fringe=np.zeros(count, np.float32),
    )
    uv = body.uv.numpy()[detail.faces_uv] * np.array([1, -1], np.float32) + np.array([0, 1], np.float32)
    points = surface.vertices[kept]
    pieces = [_Piece(0, "body", skin, np.stack([getattr(points, f) for f in FIELDS], 1), uv)]
    for layer, name in _SHELL_OF_LAYER.items():
        if name not in wardrobe:
            continue
        shell = wardrobe[name]
        if shell.bind_face.max() >= len(body.faces) or shell.shapedirs.shape[2] != body.num_betas:
            raise PosesynError(
                f"the shell {name!r} was made for another body: pass wardrobe={{}} to draw this one bare"
            )
        if name not in detail.bind_face or len(detail.bind_face[name]) != len(shell.v_template):
            raise PosesynError(f"the coarse body was made for another {name!r}: bake it again, or pass detail=None")
        shell = replace(shell, bind_face=detail.bind_face[name], bind_bary=detail.bind_bary[name])
        no_uv = np.zeros((len(shell.faces), 3, 2), np.float32)
        pieces.append(_Piece(layer, name, shell, _shell_fields(name, shell, surface), no_uv))
    return pieces


def _shell_fields(name: str, shell: Shell, surface: BodySurface) -> NDArray[np.float32]:
    """(V,6) rest-pose fields of a shell."""
    weights = np.zeros((len(shell.weight), 24), np.float32)
    np.add.at(weights, (np.arange(len(weights))[:, None], shell.weight_joint), shell.weight)
    points = surface.around(shell.v_template, weights)
    fields = np.stack([getattr(points, f) for f in FIELDS], 1)
    reach, hair = FIELDS.index("reach"), FIELDS.index("hair")
    if name == "hair":
        brow = surface.joints["left_eye"][1] + 0.4 * surface.eye_distance
        fringe = np.clip((shell.fringe - 0.2) / 0.6, 0, 1)
        fields[:, reach] = fringe
        fields[:, hair] = shell.v_template[:, 1] * (1 - fringe) + fringe * (0.35 + 10 * (shell.v_template[:, 1] - brow))
    else:
        fields[:, hair] = -1.0
    if name == "skirt":
        fields[:, reach] = -2.0
    return fields.astype(np.float32)


def _bounds(fields_V6: NDArray[np.float32]) -> NDArray[np.float32]:
    """(V/BLOCK,2,6) least and greatest fields of each block of vertices (synth.drape_kernels)."""
    from synth.drape_kernels import BLOCK

    padded = np.pad(fields_V6, ((0, -len(fields_V6) % BLOCK), (0, 0)), mode="edge").reshape(-1, BLOCK, 6)
    return np.stack([padded.min(1), padded.max(1)], 1)


def _rings(faces: NDArray[np.int32], vertices: int) -> tuple[NDArray, NDArray]:
    """The corners around each vertex in turn, and where each vertex's begin (V+1,).

    A closed ring ends with its first corner; where a vertex has more than one fan of faces, itself stands between them.
    """
    following: list[dict[int, list[int]]] = [{} for _ in range(vertices)]
    for a, b, c in faces.tolist():
        following[a].setdefault(b, []).append(c)
        following[b].setdefault(c, []).append(a)
        following[c].setdefault(a, []).append(b)
    ring: list[int] = []
    starts = [0]
    for v, edges in enumerate(following):
        ends = {e for others in edges.values() for e in others}
        for start in sorted(edges, key=lambda corner: (corner in ends, corner)):
            while edges[start]:
                if len(ring) > starts[-1]:
                    ring.append(v)
                ring.append(start)
                at = start
                while edges.get(at):
                    at = edges[at].pop(0)
                    ring.append(at)
        if len(ring) == starts[-1]:
            ring.append(v)
        starts.append(len(ring))
    return np.array(ring), np.array(starts)
