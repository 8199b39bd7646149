"""Memory runs out while an estimator is asked: halved, in order, remembered."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from human.batch import PoseBatch
from human.errors import PosesynError
from human.prediction import Prediction
from human.rng import generator
from synth.eem import EEM, inference
from synth.filters import Err3DFilter
from synth.within_memory import predict
from tests.synth.people import People, Recall, random_people


class Hungry(Recall):
    """Really asks the allocator for too much where a batch is larger than ``room``."""

    room = 5

    def predict(self, batch: PoseBatch) -> Prediction:
        self.grads.append(len(batch))  # type: ignore[arg-type]
        if len(batch) > self.room:
            torch.empty(1 << 60, dtype=torch.uint8)
        return super().predict(batch)


def hungry(count: int = 23, room: int = 5) -> tuple[Hungry, People]:
    people = random_people(count)
    estimator = Hungry(people.joints2d + torch.randn(count, 32, 2, generator=torch.Generator().manual_seed(1)))
    estimator.room = room
    return estimator, People(people)


def sizes(estimator: Hungry) -> list[int]:
    return [n for n in estimator.grads if not isinstance(n, bool)]


def test_mining_goes_on_in_halves_with_the_same_result(caplog: pytest.LogCaptureFixture) -> None:
    estimator, people = hungry()
    eem = EEM(challenges=6, references=3, batch_size=16)
    found = eem.mine(estimator, people, generator(0))
    tried = sizes(estimator)
    assert tried[:4] == [16, 8, 4, 4]
    assert max(tried[2:]) == 4  # remembered: also for the second batch and the challenges
    assert caplog.text.count("out of memory with") == 2
    roomy, _ = hungry(room=99)
    expected = eem.mine(roomy, people, generator(0))
    np.testing.assert_array_equal(found.errors, expected.errors)
    np.testing.assert_array_equal(found.challenges, expected.challenges)
    assert found.predictions is not None
    assert expected.predictions is not None
    assert torch.equal(found.predictions.joints2d, expected.predictions.joints2d)
    # And for the filter, which asks the same estimator.
    before = len(tried)
    Err3DFilter(tau=None)(estimator, people.crops(np.arange(20)))
    assert sizes(estimator)[before:] == [4] * 5


def test_no_room_for_one_is_one_clear_error() -> None:
    estimator, people = hungry(room=0)
    with (
        inference(estimator),
        pytest.raises(PosesynError, match="Hungry does not fit into the memory of cpu with a single picture"),
    ):
        predict(estimator, people.crops(np.arange(7)))
    assert sizes(estimator) == [7, 3, 1]


def test_other_errors_are_theirs() -> None:
    class Broken(Recall):
        def predict(self, batch: PoseBatch) -> Prediction:
            raise RuntimeError("size mismatch")

    people = random_people(4)
    with inference(Broken(people.joints2d)), pytest.raises(RuntimeError, match="size mismatch"):
        predict(Broken(people.joints2d), people)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("not enough memory: you tried to allocate 4 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_how_it_is_said(error: Exception) -> None:
    class Full(Recall):
        def predict(self, batch: PoseBatch) -> Prediction:
            if len(batch) > 2:
                raise error
            return super().predict(batch)

    people = random_people(5)
    estimator = Full(people.joints2d)
    with inference(estimator):
        done = predict(estimator, People(people).crops(np.arange(5)))
    assert torch.equal(done.joints2d, people.joints2d)


def test_nobody_is_no_problem() -> None:
    estimator, people = hungry()
    with inference(estimator):
        assert len(predict(estimator, people.crops(np.zeros(0, np.int64))).joints2d) == 0
