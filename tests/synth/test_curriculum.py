"""Policies of the pool: what each leaves in the mixture, alone and in a row."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from human.batch import PELVIS
from human.errors import PosesynError
from human.rng import generator
from synth.curriculum import POLICIES, Candidates, Cap, Hardest, Latest, Retire, apply, make_policies
from synth.filters import Err3DFilter
from synth.pool import Pool, Sample, encode_image
from synth.rescoring import Choice, Curriculum
from synth.sample import LABEL_SHAPES
from tests.synth.people import Recall, random_people

NAN = float("nan")


def candidates(**columns: Any) -> Candidates:
    """Eight samples of three generations; what is not given is as if everything were alike."""
    columns = {
        "generation": [1, 1, 1, 4, 4, 4, 6, 6],
        "row": [0, 1, 5, 0, 1, 2, 0, 3],
        "challenge": [0, 0, 1, 0, 0, 2, 0, 1],
        "first": [100.0] * 8,
        "now": [50.0] * 8,
        "used": [True] * 8,
        **columns,
    }
    kinds = {"first": np.float32, "now": np.float32, "used": bool}
    return Candidates(**{f"{k}_N": np.array(v, kinds.get(k, np.int64)) for k, v in columns.items()})


def kept(policy: Any, **columns: Any) -> list[int]:
    return np.flatnonzero(policy.keep(candidates(**columns))).tolist()


def test_latest_keeps_the_last_generations() -> None:
    assert kept(Latest(1)) == [6, 7]
    assert kept(Latest(2)) == [3, 4, 5, 6, 7]
    assert kept(Latest(9)) == list(range(8))


def test_hardest_are_of_all_generations() -> None:
    now = [9, 1, 8, 7, 2, 6, 5, 3]
    assert kept(Hardest(3), now=now) == [0, 2, 3]
    assert kept(Hardest(99), now=now) == list(range(8))
    # Ties: the newest. Those that were not scored come last, the newest of them first.
    assert kept(Hardest(3)) == [3, 6, 7]
    assert kept(Hardest(4), now=[NAN, 1, NAN, 7, NAN, NAN, NAN, NAN]) == [1, 3, 6, 7]


def test_what_is_learned_retires_and_may_come_back() -> None:
    now = [20, 30, 29.9, 90, NAN, NAN, 31, 0]
    used = [True, True, True, False, True, False, False, True]
    assert kept(Retire(below=30.0), now=now, used=used) == [1, 3, 4, 6]
    first = [100, 40, 100, NAN, 100, 100, 100, 100]
    assert kept(Retire(share=0.3), now=now, used=used, first=first) == [1, 3, 4, 6]


def test_cap_is_per_challenge() -> None:
    assert kept(Cap(1)) == [5, 6, 7]  # challenge 2, 0 and 1
    assert kept(Cap(2)) == [2, 3, 5, 6, 7]
    assert kept(Cap(3)) == [2, 3, 4, 5, 6, 7]
    assert kept(Cap(1, by="hardest"), now=[9, 1, 8, 7, 2, 6, 5, 3]) == [0, 2, 5]


@given(st.data())
def test_policies_keep_their_promises(data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 30))
    numbers = st.one_of(st.floats(0, 200, width=32), st.just(NAN))
    found = Candidates(
        np.sort(np.array(data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)), np.int64)),
        np.arange(n),
        np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), np.int64),
        np.array(data.draw(st.lists(numbers, min_size=n, max_size=n)), np.float32),
        np.array(data.draw(st.lists(numbers, min_size=n, max_size=n)), np.float32),
        np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool),
    )
    m = data.draw(st.integers(1, 10))
    hardest = Hardest(m).keep(found)
    assert hardest.sum() == min(m, n)
    scored = np.nan_to_num(found.now_N, nan=-1.0)
    if 0 < m < n:
        assert scored[hardest].min() >= scored[~hardest].max()
    for by in ("newest", "hardest"):
        capped = Cap(m, by).keep(found)
        for challenge in np.unique(found.challenge_N):
            mine = found.challenge_N == challenge
            assert capped[mine].sum() == min(m, mine.sum())
            if by == "newest" and (mine & ~capped).any():
                assert found.generation_N[mine & capped].min() >= found.generation_N[mine & ~capped].max()
    left = Retire(below=60.0).keep(found)
    assert (found.now_N[left & np.isfinite(found.now_N)] >= 60).all()
    both, removed = apply([Latest(2), Cap(m)], found)
    assert n - both.sum() == sum(removed.values())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["newest"], "no pool policy is called 'newest'.*cap, hardest, latest, retire"),
        ([{"name": "cap", "options": {"most": 3}}], "most"),
        ([{"name": "cap", "options": {"samples": 0}}], "samples >= 1, got 0"),
        ([{"name": "cap", "options": {"by": "luck"}}], "luck"),
        ([{"name": "hardest", "options": {"samples": 1.5}}], "1.5"),
        (["retire"], "below=None"),
        ([{"name": "retire", "options": {"below": 3, "share": 0.5}}], "one of them"),
        ([{"name": "retire", "options": {"share": 1.5}}], "share=1.5"),
        ([{"name": "retire", "options": {"below": -2}}], "below=-2"),
        ([{"policy": "latest"}], r"pool_policy\[0\]"),
        ([3], r"pool_policy\[0\]"),
    ],
)
def test_wrong_policies(wrong: list[Any], said: str) -> None:
    with pytest.raises(PosesynError, match=said):
        make_policies(wrong)


def test_every_registered_policy_has_defaults_or_says_what_it_needs() -> None:
    assert [p.name for p in make_policies(["latest", {"name": "hardest"}, {"name": "cap", "options": None}])] == [
        "latest",
        "hardest",
        "cap",
    ]
    assert all(POLICIES.get(name).name == name for name in POLICIES)


# -- over a pool -----------------------------------------------------------------------------------------------------
COUNT = 12


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Two generations of six: the picture of sample s spells s, so that :class:`Recall` knows it."""
    pool = Pool(tmp_path_factory.mktemp("curriculum") / "pool")
    people = random_people(COUNT)
    samples = []
    for s in range(COUNT):
        labels = {name: getattr(people, name)[s].numpy() for name in LABEL_SHAPES}
        labels["joints2d"] = np.zeros(LABEL_SHAPES["joints2d"], np.float32)
        labels["joints2d_conf"] = labels["joints3d_conf"] = np.ones(32, np.float32)
        labels["joints3d"] = np.zeros(LABEL_SHAPES["joints3d"], np.float32)
        picture = np.full((16, 16, 3), s, np.uint8)
        picture[0, 0, 1] = 0
        samples.append(Sample(image=encode_image(picture, "png"), challenge_id=f"c{s % 2}", err3d=100.0, **labels))
    pool.commit(3, samples[:6])
    pool.commit(8, samples[6:])
    return pool


def estimator(mm: list[float]) -> Recall:
    """Off by so much with each sample."""
    joints = torch.zeros(COUNT, 32, 3)
    moved = [j for j in range(24) if j != PELVIS]
    joints[:, moved, 0] = torch.tensor(mm)[:, None] / 1000 * 24 / 23
    return Recall(torch.zeros(COUNT, 32, 2), joints)


def choose(pool: Pool, policies: list[Any], mm: list[float], most: int = 100, seed: int = 0, **more: Any) -> Choice:
    used = more.pop("used", {3: np.arange(6), 8: np.arange(6)})
    lost = more.pop("lost", {})
    curriculum = Curriculum(make_policies(policies), most)
    return curriculum.choose(pool, {3: 6, 8: 6}, used, lost, estimator(mm), Err3DFilter(tau=None), generator(seed))


def rows(choice: Choice) -> dict[int, list[int]]:
    return {g: r.tolist() for g, r in choice.rows.items()}


RISING = [10.0 * s for s in range(COUNT)]


def test_samples_are_scored_with_the_estimator_as_it_is(pool: Pool) -> None:
    choice = choose(pool, [{"name": "hardest", "options": {"samples": 7}}], RISING)
    assert rows(choice) == {3: [5], 8: [0, 1, 2, 3, 4, 5]}
    assert choice.report["err3d_mean"] == pytest.approx(55.0, abs=0.01)
    assert (choice.report["candidates"], choice.report["scored"], choice.report["kept"]) == (12, 12, 7)
    assert rows(choose(pool, [{"name": "hardest", "options": {"samples": 2}}], RISING[::-1])) == {3: [0, 1]}


def test_retired_by_share_of_what_it_was(pool: Pool) -> None:
    """Everything was 100 mm when it was made."""
    assert rows(choose(pool, [{"name": "retire", "options": {"share": 0.45}}], RISING)) == {
        3: [5],
        8: [0, 1, 2, 3, 4, 5],
    }
    assert rows(choose(pool, [{"name": "retire", "options": {"below": 1e6}}], RISING)) == {}


def test_policies_in_a_row(pool: Pool) -> None:
    chain = ["latest", {"name": "cap", "options": {"samples": 2}}, {"name": "hardest", "options": {"samples": 3}}]
    choice = choose(pool, chain, RISING)
    # Two of each of the two challenges, the newest generation's first ones; of these four the worst.
    assert rows(choice) == {8: [1, 2, 3]}
    assert choice.report["scored"] == 4
    assert [choice.report[f"removed/{n}"] for n in ("1/latest", "2/cap", "3/hardest")] == [0, 8, 1]
    one = [{"name": "latest", "options": {"generations": 1}}]
    assert rows(choose(pool, one, RISING)) == {8: list(range(6))}
    assert choose(pool, one, RISING).report["scored"] == 0  # nobody asked


def test_scoring_is_bounded_by_an_even_draw(pool: Pool) -> None:
    chain = [{"name": "retire", "options": {"below": 1e6}}]  # everything that is scored goes
    drawn = set()
    for seed in range(8):
        choice = choose(pool, chain, RISING, most=4, seed=seed)
        assert (choice.report["scored"], choice.report["kept"]) == (4, 8)
        assert rows(choice) == rows(choose(pool, chain, RISING, most=4, seed=seed))
        drawn |= {(g, r) for g in (3, 8) for r in range(6) if r not in rows(choice).get(g, [])}
    assert len(drawn) > 9


def test_what_is_lost_is_not_chosen(pool: Pool) -> None:
    chain = [{"name": "hardest", "options": {"samples": 3}}]
    lost = {8: np.array([5, 4]), 3: np.arange(6)}
    assert rows(choose(pool, chain, RISING, lost=lost)) == {8: [1, 2, 3]}


def test_an_estimator_that_says_nonsense_retires_nobody(pool: Pool) -> None:
    chain = [{"name": "retire", "options": {"below": 50}}]
    choice = choose(pool, chain, [NAN] * COUNT, used={3: np.array([2, 4])})
    assert rows(choice) == {3: [2, 4]}
    assert choice.report["err3d_mean"] is None


def test_damage_found_while_scoring(tmp_path: Path, pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(pool.path, tmp_path / "pool")
    file = sorted((tmp_path / "pool" / "data").iterdir(), key=lambda p: p.stat().st_size)[-1]
    pictures = [pool.read(8, [3]), pool.read(3, [3])]
    raw = bytearray(file.read_bytes())
    for batch in pictures:
        picture = encode_image(batch.image[0], "png")
        if picture in raw:
            raw[raw.index(picture) + 40] ^= 1
    file.write_bytes(raw)
    choice = choose(Pool(tmp_path / "pool"), [{"name": "hardest", "options": {"samples": 99}}], RISING)
    assert sum(map(len, rows(choice).values())) == COUNT - 1
    assert "samples leave the mixture" in caplog.text
