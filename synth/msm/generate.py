"""The motion synthesis module: motions that start in a wrong pose and go where a sentence says (PoseSyn §3.2).

The predicted pose is held for T = 30 frames and encoded; its codes follow the caption's embedding as a prefix
(equation 5), and the transformer goes on from there. Prefix and generated codes are decoded together, so that the
motion leaves the wrong pose without a jump. Only the frames that are shown are fitted with a body.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from human.body import BodyModel
from human.camera import level_flip
from human.errors import PosesynError
from human.fit import fit_joints3d
from human.interruption import safe_point
from human.motion_features import features_to_joints, heading, turn_about_y
from human.motion_joints import JOINTS
from human.motion_skeleton import uniform_skeleton
from human.rng import derive_seed
from human.rotations import matrix_to_rotvec, rotvec_to_matrix
from human.skeleton import POSE32
from synth.captions.base import CaptionRequest, load_captioner
from synth.captions.text_encoders import load_text_encoder
from synth.clips import hold_where_unknown
from synth.msm.clip import fit_window, window
from synth.msm.motion_checks import foot_slide, ground_motion, jumps
from synth.msm.orientation import Keep, camera_from_motion
from synth.msm.pair import MotionPair
from synth.msm.picking import SELECTS, Select, pick_by_labels, pick_uniform, usable_frames
from synth.msm.sampling import Sampling
from synth.msm.start import Starts, start_poses
from synth.scene import in_fixed_batches
from synth.synthesis import (
    SYNTHESISERS,
    Challenges,
    Clips,
    Film,
    Synthesised,
    Variation,
    fall_back,
    settings_hash,
    without_nan,
)
from synth.variation import VariationConfig, image_error

_SLOTS = 64  # slots whose motions are in memory together
_WORST_FIT = 0.06  # metres: a body further from a frame's joints than this shows another pose


@SYNTHESISERS.register("msm")
class MSM:
    """PoseSyn's motion synthesis module as a synthesiser.

    Args:
        variation: settings of what makes a pose where no motion can be made.
        pair: the motion VQ-VAE and transformer: ``packaged:NAME``, a file or a folder.
        captioner, captioner_options: who describes a challenge, by name, and its settings.
        text_options: settings of the text encoder that the pair was trained with.
        variants: motions made for each slot.
        select: which frame of them a slot shows: any ("uniform") or the one that fits the 2D labels best ("labels").
        hold: frames for which the predicted pose is held (the paper's T).
        max_codes: a motion's length in codes of 4 frames, the held pose included; None: what the transformer allows.
        temperature, top_k, top_p: how codes are drawn; see :class:`synth.msm.sampling.Sampling`.
        use_pose: start in the predicted pose. False: the caption alone (the paper's ablation).
        orientation: the motion starts as the slot's reference stands before its camera ("reference", as the paper; a
            slot without one: as its challenge), or as its challenge was predicted to ("challenge").
        keep: what of that orientation it starts with; see :func:`synth.msm.orientation.camera_from_motion`.
        films: challenges whose motions are kept to be looked at.
        clip_frames: frames of a slot's clip, where those are asked for; each takes about 10 ms to fit.
        device: where the networks run; "auto" takes a GPU where there is one.

    In other company a slot shows the same frame; only its fit is rounded otherwise.

    Raises:
        PosesynError: settings that make no sense, or weights that are not there.
    """

    def __init__(
        self,
        variation: VariationConfig | None = None,
        pair: str = "packaged:msm_small",
        captioner: str = "describer",
        captioner_options: dict[str, Any] | None = None,
        text_options: dict[str, Any] | None = None,
        variants: int = 1,
        select: Select = "uniform",
        hold: int = 30,
        max_codes: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        use_pose: bool = True,
        orientation: str = "reference",
        keep: Keep = "heading",
        films: int = 24,
        clip_frames: int = 41,
        device: str = "auto",
    ) -> None:
        if variants < 1 or hold < 2 or films < 0 or clip_frames < 1:
            raise PosesynError(
                "msm needs variants >= 1, hold >= 2, films >= 0 and clip_frames >= 1, got "
                f"{variants}, {hold}, {films} and {clip_frames}"
            )
        for option, value, known in (
            ("select", select, SELECTS),
            ("orientation", orientation, ("reference", "challenge")),
            ("keep", keep, ("full", "heading")),
        ):
            if value not in known:
                raise PosesynError(f"msm.{option}={value!r}: choose one of {', '.join(known)}")
        self.variants, self.select, self.hold, self.films = variants, select, hold, films
        self.wants_references, self.keep = orientation == "reference", keep
        self.wants_clips, self.clip_frames = False, clip_frames
        self.name = "msm" if use_pose else "msm_text_only"
        self.sampling = Sampling(temperature, top_k, top_p)
        self.fallback = Variation(variation)
        self.pair = MotionPair.load(pair)
        if self.pair.layout != "humanml3d":
            raise PosesynError(
                f"motion pair {pair} makes motions of the {self.pair.layout} skeleton; bodies need HumanML3D's"
            )
        #: Codes of the held pose; features are one row fewer than frames.
        self.prefix = (hold - 1) // self.pair.unit_length if use_pose else 0
        room = self.pair.transformer.config.max_codes
        self.max_codes = room if max_codes is None else max_codes
        if (use_pose and self.prefix < 1) or not self.prefix < self.max_codes <= room:
            raise PosesynError(
                f"msm.hold={hold} frames are {self.prefix} codes and msm.max_codes={self.max_codes}: hold the pose for "
                f"a code at least, and let max_codes be more than that and at most {room} (the transformer's room)"
            )
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(chosen if device == "auto" else device)
        self.pair.to(self.device)
        self.captioner = load_captioner(captioner, **(captioner_options or {}))
        self.text = load_text_encoder(self.pair.text_encoder, **(text_options or {}))

    def config_hash(self) -> str:
        return settings_hash(
            self.name,
            pair=self.pair.fingerprint(),
            captioner=self.captioner.config_hash(),
            text=self.text.name,
            variation=asdict(self.fallback.config),
            motions=[
                self.variants,
                self.select,
                self.hold,
                self.prefix,
                self.max_codes,
                self.wants_references,
                self.keep,
            ],
            sampling=asdict(self.sampling),
            **({"clip_frames": self.clip_frames} if self.wants_clips else {}),
        )

    def synthesise(
        self, challenges: Challenges, slot_challenge_S: np.ndarray, seeds: list[int], body: BodyModel
    ) -> Synthesised:
        replaced = self.captioner.replaced
        made = self._captioned(challenges, slot_challenge_S, seeds, body)
        by_challenge: dict[int, int] = {}
        for s, k in enumerate(slot_challenge_S.tolist()):
            if k < self.films:
                by_challenge.setdefault(k, s)
        filmed = set(by_challenge.values())
        for rows in torch.nonzero(made.ok_S)[:, 0].split(_SLOTS):
            safe_point()
            self._motions(rows, made, filmed)
        self._fit(made, body)
        report: dict[str, float | int] = {
            **made.reasons,
            "captions_replaced": self.captioner.replaced - replaced,
            "motion_codes": _mean(made.lengths),
            "foot_slide": _mean(made.slides),
            "fit_mm": 1000 * _mean(made.residual_S[made.ok_S].tolist()),
        }
        out = Synthesised(
            made.starts.betas[made.challenge_S],
            made.pose_S,
            made.orient_S,
            made.error2d_S,
            tuple(made.captions),
            report,
            tuple(made.films),
        )
        out = fall_back(out, ~made.ok_S, challenges, slot_challenge_S, seeds, body, self.fallback)
        if made.clips is None:
            return out
        clips = hold_where_unknown(made.clips.of(self.pair.fps), out.body_pose, out.global_orient)
        return replace(out, clips=clips)

    def _captioned(
        self, challenges: Challenges, slot_challenge_S: np.ndarray, seeds: list[int], body: BodyModel
    ) -> _Made:
        """Every slot with its challenge's caption and start; those that have none fall back."""
        finite_K = challenges.predictions.finite
        predictions, _ = without_nan(challenges.predictions)
        captions = self.captioner.caption(CaptionRequest(predictions, challenges.crops.image, challenges.activities))
        made = _Made(
            challenges,
            torch.from_numpy(slot_challenge_S),
            seeds,
            captions,
            self.text.encode(captions),
            start_poses(predictions, body, self.pair, self.hold),
            self.clip_frames if self.wants_clips else 0,
        )
        told_K = torch.tensor([bool(text.strip()) for text in captions])
        made.lose("nan_pose", (~finite_K)[made.challenge_S])
        made.lose("empty_caption", (finite_K & ~told_K)[made.challenge_S])
        return made

    def _motions(self, rows_S: Tensor, made: _Made, filmed: set[int]) -> None:
        """Make the motions of some slots and keep of each the frame to show."""
        many, unit = self.variants, self.pair.unit_length
        of_M = made.challenge_S[rows_S].repeat_interleave(many)
        codes_MP, length_M = self.pair.transformer.generate(
            made.text_KC[of_M].to(self.device),
            made.starts.codes[of_M, : self.prefix].to(self.device),
            self.max_codes,
            seeds=[derive_seed(made.seeds[s], "msm", v) for s in rows_S.tolist() for v in range(many)],
            temperature=self.sampling.temperature,
            top_k=self.sampling.top_k,
            top_p=self.sampling.top_p,
        )
        made.lengths += length_M.tolist()
        (joints_MTJ3,) = in_fixed_batches(lambda codes: (features_to_joints(self.pair.decode(codes)),), codes_MP)
        end_M, first = length_M.cpu() * unit, self.prefix * unit
        joints_MTJ3 = uniform_skeleton(joints_MTJ3.cpu(), made.starts.bones[of_M])
        # The held pose faces +z. In its middle, that is: HumanML3D's features begin with a turn that is none.
        joints_MTJ3 = turn_about_y(joints_MTJ3, -heading(joints_MTJ3[:, first // 2]))
        joints_MTJ3 = ground_motion(joints_MTJ3, end_M, self.pair.fps)
        made.slides += foot_slide(joints_MTJ3, end_M, self.pair.fps).tolist()
        usable_MT = usable_frames(jumps(joints_MTJ3, end_M), end_M, first)
        frames = joints_MTJ3.shape[1]
        usable_SC = usable_MT.view(len(rows_S), many * frames)
        if self.select == "labels":
            seen = level_flip(turn_about_y(joints_MTJ3, made.starts.heading[of_M]))
            error_SC = made.label_error(rows_S, seen.reshape(len(rows_S), many * frames, JOINTS, 3))
            chosen_S = pick_by_labels(error_SC, usable_SC)
            least_S = error_SC.gather(1, chosen_S.clamp_min(0)[:, None])[:, 0]
            made.error2d_S[rows_S] = least_S.where(least_S.isfinite(), torch.nan)
        else:
            chosen_S = pick_uniform(usable_SC, [made.seeds[s] for s in rows_S.tolist()])
        ended_S = (end_M.view(-1, many) <= first).all(1)
        made.lose("ended_at_once", ended_S, rows_S)
        made.lose("broken_motion", (chosen_S < 0) & ~ended_S, rows_S)
        motion_S = torch.arange(len(rows_S)) * many + chosen_S.clamp_min(0) // frames
        frame_S = chosen_S.clamp_min(0) % frames
        made.joints_S[rows_S], made.first_S[rows_S] = joints_MTJ3[motion_S, frame_S], joints_MTJ3[motion_S, 0]
        if made.clips is not None:
            # From the middle of the held pose, which is where it stands still, to the first jump.
            stop_S = (first + usable_MT.sum(1))[motion_S].cpu()
            index_SF, made.clips.keep_S[rows_S] = window(frame_S, first // 2, stop_S, self.clip_frames)
            made.clips.joints_SFJ3[rows_S] = joints_MTJ3[motion_S[:, None], index_SF]
        for i, s in enumerate(rows_S.tolist()):
            if s in filmed:
                k, m, shown = int(made.challenge_S[s]), int(motion_S[i]), int(chosen_S[i]) >= 0
                made.films.append(
                    Film(
                        k,
                        made.captions[k],
                        joints_MTJ3[m, : int(end_M[m])].clone(),
                        self.pair.fps,
                        float(made.starts.heading[k]),
                        picked=(int(frame_S[i]),) if shown else (),
                        prefix=first,
                        fell_back="" if shown else "it ended at once" if ended_S[i] else "it is broken",
                    )
                )

    def _fit(self, made: _Made, body: BodyModel) -> None:
        """Bodies of the frames that are shown, turned from the motion's frame into the camera's."""
        rows = torch.nonzero(made.ok_S)[:, 0]
        if not len(rows):
            return
        of_S = made.challenge_S[rows]

        def fit(joints: Tensor, betas: Tensor) -> tuple[Tensor, ...]:
            found = fit_joints3d(body, joints, betas=betas, tolerance=0.0, on_bad="mask")
            return found.body_pose, found.global_orient, found.error, found.valid

        betas = made.starts.betas[of_S]
        pose, orient, error, valid = in_fixed_batches(fit, made.joints_S[rows], betas, size=_SLOTS)
        # How the motion's first frame stands is known where it is the challenge's pose, and else is fitted too.
        first = (
            made.starts.orient[of_S]
            if self.prefix
            else in_fixed_batches(fit, made.first_S[rows], betas, size=_SLOTS)[1]
        )
        start = made.challenges.predictions.global_orient[of_S]
        if self.wants_references and made.challenges.reference_orient is not None:
            reference = made.challenges.reference_orient[rows]
            start = torch.where(reference.isfinite().all(1, keepdim=True), reference, start)
        first, orient, start = (rotvec_to_matrix(r) for r in (first, orient, start))
        turn = camera_from_motion(first, start, keep=self.keep)
        made.pose_S[rows], made.orient_S[rows], made.residual_S[rows] = pose, matrix_to_rotvec(turn @ orient), error
        made.lose("unfit", ~(valid & (error < _WORST_FIT)), rows)
        if made.clips is not None:
            made.clips.fit(rows, betas, turn, body, made)


SYNTHESISERS.register("msm_text_only")(partial(MSM, use_pose=False))


@dataclass
class _Made:
    """A refresh's slots and what is known of each so far; tensors over slots end in S, over challenges in K."""

    challenges: Challenges
    challenge_S: Tensor
    seeds: list[int]
    captions: list[str]
    text_KC: Tensor
    starts: Starts
    clip_frames: int = 0  # 0: no clips

    def __post_init__(self) -> None:
        count = len(self.seeds)
        self.clips = _Clips(count, self.clip_frames) if self.clip_frames else None
        self.ok_S = torch.ones(count, dtype=torch.bool)
        self.joints_S, self.first_S = torch.zeros(count, JOINTS, 3), torch.zeros(count, JOINTS, 3)
        self.pose_S, self.orient_S = torch.zeros(count, 23, 3), torch.zeros(count, 3)
        self.residual_S, self.error2d_S = torch.full((count,), torch.nan), torch.full((count,), torch.nan)
        self.reasons: Counter[str] = Counter()
        self.films: list[Film] = []
        self.lengths: list[int] = []  # of every motion, in codes
        self.slides: list[float] = []  # of every motion's standing foot, m/s

    def lose(self, reason: str, which: Tensor, rows: Tensor | None = None) -> None:
        """Slots (numbers ``rows``, or all) that fall back where ``which`` is true."""
        if count := int(which.sum()):
            self.reasons[reason] += count
            self.ok_S[torch.nonzero(which)[:, 0] if rows is None else rows[which]] = False

    def label_error(self, rows_S: Tensor, joints_SC22x3: Tensor) -> Tensor:
        """(S, C) pixels from the challenges' 2D labels, of joints in the camera's frame."""
        crops, of_S = self.challenges.crops, self.challenge_S[rows_S]
        rest = joints_SC22x3.new_zeros(*joints_SC22x3.shape[:2], len(POSE32) - JOINTS, 3)
        return image_error(torch.cat([joints_SC22x3, rest], 2), crops.joints2d[of_S], crops.joints2d_conf[of_S])


class _Clips:
    """The motions around the frames that are shown, as joints and then as bodies; NaN where there is none."""

    def __init__(self, count: int, frames: int) -> None:
        self.keep_S = torch.full((count,), frames // 2)
        self.joints_SFJ3 = torch.zeros(count, frames, JOINTS, 3)
        self.pose_SF = torch.full((count, frames, 23, 3), torch.nan)
        self.orient_SF, self.offset_SF = torch.full((2, count, frames, 3), torch.nan)

    def fit(self, rows: Tensor, betas: Tensor, turn: Tensor, body: BodyModel, made: _Made) -> None:
        for part in torch.arange(len(rows)).split(_SLOTS):
            safe_point()
            mine = rows[part]
            fitted = fit_window(
                self.joints_SFJ3[mine], betas[part], turn[part], self.keep_S[mine], body, worst=_WORST_FIT
            )
            self.pose_SF[mine], self.orient_SF[mine], self.offset_SF[mine] = fitted
        # The kept frame is the slot's pose, to the last bit.
        ok = rows[made.ok_S[rows]]
        self.pose_SF[ok, self.keep_S[ok]], self.orient_SF[ok, self.keep_S[ok]] = made.pose_S[ok], made.orient_S[ok]
        self.offset_SF[ok, self.keep_S[ok]] = 0.0
        lost = rows[~made.ok_S[rows]]
        self.pose_SF[lost] = torch.nan

    def of(self, fps: float) -> Clips:
        return Clips(self.pose_SF, self.orient_SF, self.offset_SF, tuple(self.keep_S.tolist()), fps)


def _mean(values: list[float] | list[int]) -> float:
    """NaN where there is none."""
    finite = [v for v in values if np.isfinite(v)]
    return float(np.mean(finite)) if finite else float("nan")
