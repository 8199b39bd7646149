"""Meshes to jobs: recovery, hardness, augmentation, and everything that can be missing on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from human.batch import PoseBatch
from human.body import load_body
from human.camera import project
from human.detectors import Detections, PersonDetector
from human.errors import PosesynError
from human.prediction import Prediction
from synth.diffusion.loading import DiffusionModel, Memory
from synth.diffusion.text2img import TextToImage
from synth.engines.depth2img import MADE
from synth.hpc.initial import InitialPictures, made_pictures
from synth.hpc.planner import MeshPlanner, recover
from synth.jobs import Job, Prompt
from synth.pose_augmentation import FEW_SHOT, PoseAugmentation
from synth.pose_prior import JOINTS, pose_hardness
from synth.pose_prior_files import shared_pose_prior
from tests.synth.diffusion import tiny
from tests.tiny import rendered_people, tiny_hmr

BODY = load_body()
CROP, SIZE, LARGE = 64, 96, 128


def truth(batch: PoseBatch) -> Prediction:
    """A perfect estimator's."""
    joints = BODY.joints(batch.betas, batch.body_pose, batch.global_orient, batch.transl)
    return Prediction(
        joints3d=joints - joints[:, :1],
        joints2d=project(joints, batch.intrinsics),
        global_orient=batch.global_orient,
        body_pose=batch.body_pose,
        betas=batch.betas,
        transl=joints[:, 0],
        intrinsics=batch.intrinsics,
    )


@pytest.fixture(scope="module")
def people() -> PoseBatch:
    return rendered_people(range(6), CROP)


@pytest.fixture(scope="module")
def initial(people: PoseBatch) -> InitialPictures:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (LARGE, LARGE, 3), dtype=np.uint8) for _ in range(len(people))]
    ids = [f"smart/{k}" for k in range(len(people))]
    return InitialPictures(ids, people, pictures, [Prompt(caption=i) for i in ids], np.arange(6.0), {"initial": 6})


def planner(**changes: Any) -> MeshPlanner:
    return MeshPlanner(**{"size": SIZE, "hardness": None, "inside": 0.0, **changes})


def joints_of(job: Job) -> torch.Tensor:
    s = job.scene
    return BODY.joints(s.betas, s.body_pose, s.global_orient, s.transl)


def test_three_jobs_a_picture_the_first_as_recovered(initial: InitialPictures, people: PoseBatch) -> None:
    plan = planner().plan(initial, truth(people), seed=1, number=2, tpe="abc")
    assert plan.report == {
        "initial": 6, "not_recovered": 0, "easy": 0, "outside": 0, "pictures": 6, "jobs": 18,
    }  # fmt: skip
    assert len({j.seed for j in plan.jobs}) == 18
    for row in range(6):
        first, *others = plan.jobs[3 * row : 3 * row + 3]
        assert torch.equal(first.scene.body_pose[0], people.body_pose[row])
        assert torch.equal(first.scene.global_orient[0], people.global_orient[row])
        assert all(j.reference is not None and j.reference.id == f"smart/{row}" for j in (first, *others))
        assert all(j.prompt.caption == f"smart/{row}" for j in (first, *others))
        assert first.provenance.challenge_id == f"smart/{row}"
        assert first.provenance.challenge_error == row
        assert first.provenance.tpe == "abc"
        for other in others:
            assert not torch.equal(other.scene.body_pose, first.scene.body_pose)
            assert torch.equal(other.scene.body_pose[:, JOINTS:], first.scene.body_pose[:, JOINTS:])
            # The pelvis stays where it was recovered, under the same camera.
            assert torch.allclose(joints_of(other)[:, 0], joints_of(first)[:, 0], atol=1e-4)
            assert torch.equal(other.scene.intrinsics, first.scene.intrinsics)


def test_the_mesh_lies_on_the_person_at_every_size(initial: InitialPictures, people: PoseBatch) -> None:
    """The job's camera is for SIZE pixels, the reference's for LARGE, the estimator saw CROP."""
    plan = planner().plan(initial, truth(people), seed=1)
    for row in range(6):
        job = plan.jobs[3 * row]
        at = project(joints_of(job), job.scene.intrinsics)[0]
        wanted = (people.joints2d[row] + 0.5) * (SIZE / CROP) - 0.5
        assert torch.allclose(at, wanted, atol=0.02)
        assert job.reference is not None
        body = job.reference.body
        assert body is not None
        large = project(BODY.joints(body.betas, body.body_pose, body.global_orient, body.transl), body.intrinsics)[0]
        assert torch.allclose(large, (people.joints2d[row] + 0.5) * (LARGE / CROP) - 0.5, atol=0.02)


def test_only_the_hard_ones(initial: InitialPictures, people: PoseBatch) -> None:
    plain = planner().plan(initial, truth(people), seed=1)
    wanted = pose_hardness(shared_pose_prior(), people.body_pose).numpy()
    assert np.allclose(plain.hardness, wanted)
    tau = float(np.median(wanted))
    plan = planner(hardness=tau).plan(initial, truth(people), seed=1)
    assert plan.report["easy"] == 3
    assert plan.report["pictures"] == 3
    hard = {f"smart/{k}" for k in np.flatnonzero(wanted > tau)}
    assert {j.provenance.challenge_id for j in plan.jobs} == hard
    # Who else is there does not change a job.
    same = {j.seed: j for j in plain.jobs}
    assert all(torch.equal(same[j.seed].scene.body_pose, j.scene.body_pose) for j in plan.jobs)
    nobody = planner(hardness=1e9).plan(initial, truth(people), seed=1)
    assert nobody.jobs == []
    assert nobody.report["easy"] == 6


def test_nobody_recovered_is_counted(initial: InitialPictures, people: PoseBatch) -> None:
    said = truth(people)
    pose, transl = said.body_pose.clone(), said.transl.clone()
    pose[1, 3] = torch.nan
    transl[2] = torch.inf
    crops = people.replace(weight=torch.tensor([1.0, 1, 1, 0, 1, 1]))
    plan = planner().plan(replace(initial, crops=crops), replace(said, body_pose=pose, transl=transl), seed=1)
    assert plan.report["not_recovered"] == 3
    assert plan.report["jobs"] == 9
    assert np.array_equal(np.isnan(plan.hardness), [False, True, True, True, False, False])
    assert all(j.scene.body_pose.isfinite().all() for j in plan.jobs)
    everyone = planner().plan(initial, replace(said, betas=said.betas * torch.nan), seed=1)
    assert everyone.jobs == []
    assert everyone.report["not_recovered"] == 6
    none = InitialPictures([], PoseBatch.blank(0, CROP), [], [], np.zeros(0))
    empty = planner().plan(none, recover(tiny_hmr(), none), seed=1)
    assert empty.jobs == []
    assert empty.report["pictures"] == 0


def test_bodies_out_of_the_picture_are_left_out(initial: InitialPictures, people: PoseBatch) -> None:
    said = truth(people)
    transl = said.transl.clone()
    transl[0, 0] += 50.0
    transl[1, 2] = -4.0
    plan = planner(inside=0.5).plan(initial, replace(said, transl=transl), seed=1)
    assert plan.report["outside"] >= 6
    assert {"smart/0", "smart/1"}.isdisjoint(j.provenance.challenge_id for j in plan.jobs)


def test_a_plan_is_a_function_of_its_seeds(initial: InitialPictures, people: PoseBatch) -> None:
    said = truth(people)
    keys = [
        [j.key() for j in planner().plan(initial, said, seed=s, number=n).jobs] for s, n in ((1, 0), (1, 0), (1, 1))
    ]
    assert keys[0] == keys[1]
    assert set(keys[0]).isdisjoint(keys[2])
    assert planner().config_hash() == planner().config_hash()
    for change in ({"per_picture": 2}, {"hardness": 30.0}, {"augmentation": FEW_SHOT}, {"recovered": False}):
        assert planner(**change).config_hash() != planner().config_hash()


def test_jobs_survive_a_file(initial: InitialPictures, people: PoseBatch, tmp_path: Path) -> None:
    job = planner().plan(initial, truth(people), seed=1).jobs[1]
    job.save(tmp_path / "job")
    assert Job.load(tmp_path / "job").key() == job.key()


def test_few_shot_augmentation_goes_further(initial: InitialPictures, people: PoseBatch) -> None:
    """Codes are multiplied by 1.5 on average: poses get harder, as the paper wants them."""
    prior, said = shared_pose_prior(), truth(people)

    def harder(augmentation: PoseAugmentation) -> float:
        jobs = planner(recovered=False, augmentation=augmentation, per_picture=8).plan(initial, said, seed=3).jobs
        return float(pose_hardness(prior, torch.cat([j.scene.body_pose for j in jobs])).median())

    still = PoseAugmentation(scale=0.0, orient_scale=0.0, shape_scale=0.0)
    assert harder(FEW_SHOT) > harder(still)


@pytest.mark.parametrize(
    "change", [{"per_picture": 0}, {"size": 0}, {"inside": 2.0}, {"hardness": float("nan")}, {"prior": "packaged:no"}]
)
def test_settings_that_are_mistyped(change: dict[str, Any]) -> None:
    with pytest.raises(PosesynError):
        planner(**change)


def test_as_many_predictions_as_pictures(initial: InitialPictures, people: PoseBatch) -> None:
    with pytest.raises(PosesynError, match="6 initial pictures"):
        planner().plan(initial, truth(people)[:5], seed=1)


def test_recovery_is_the_estimators_own(initial: InitialPictures) -> None:
    estimator = tiny_hmr()
    estimator.train()
    said = recover(estimator, initial, batch_size=4)
    assert estimator.training
    assert len(said.betas) == 6
    assert isinstance(estimator, nn.Module)
    estimator.eval()
    with torch.no_grad():
        assert torch.allclose(said.body_pose, estimator.predict(initial.crops).body_pose, atol=1e-4)


class _Boxes(PersonDetector):
    """Finds the same people in every second picture."""

    def __init__(self, boxes: list[list[float]]) -> None:
        self.boxes, self.calls = boxes, 0

    def __call__(self, image_HWC: np.ndarray, file: str = "") -> Detections:
        self.calls += 1
        boxes = self.boxes if self.calls % 2 else []
        return Detections.of(boxes, [1.0] * len(boxes), *image_HWC.shape[:2])


def test_pictures_from_words(tmp_path: Path) -> None:
    make = TextToImage(DiffusionModel(str(tiny.save_sd(tmp_path / "sd"))), Memory("cpu"), side=64, steps=2)
    boxes = [[10.0, 5.0, 40.0, 60.0], [50.0, 50.0, 60.0, 60.0]]
    found = made_pictures(make, _Boxes(boxes), 4, 32, "smart", ["diving", "vault"], seed=3, number=1)
    assert found.report == {"initial": 4, "nobody": 2, "several": 2}
    assert found.ids == [f"{MADE}3/1/0", f"{MADE}3/1/2"]
    assert found.crops.image.shape == (2, 3, 32, 32)
    assert [p.shape for p in found.pictures] == [(64, 64, 3)] * 2
    assert {p.caption for p in found.prompts} <= {"an athlete is diving", "an athlete is doing vault"}
    # The square about the person is moved into the picture: no black border is denoised as if it were a place.
    assert float((found.pictures[0].sum(-1) > 0).mean()) > 0.9
    again = made_pictures(make, _Boxes(boxes), 4, 32, "smart", ["diving", "vault"], seed=3, number=1)
    assert torch.equal(found.crops.image, again.crops.image)
    other = made_pictures(make, _Boxes(boxes), 4, 32, "smart", ["diving", "vault"], seed=4, number=1)
    assert not torch.equal(found.crops.image, other.crops.image)
    nobody = made_pictures(make, _Boxes([]), 2, 32, "smart", [], seed=3, number=1)
    assert len(nobody) == 0
    assert nobody.crops.image.shape == (0, 3, 32, 32)
    make.release()
    assert np.array_equal(make("a", 1), make("a", 1))
