"""Domain adaptation: what each stage moves, what it is for, what goes wrong; on real parts at tiny size."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from human.batch import PoseBatch
from human.errors import PosesynError
from lightning_modules import ESTIMATORS, HMR, DomainConfusion, GradientReversal
from lightning_modules.base import Regression
from lightning_modules.domain_adaptation import (
    REAL,
    SYNTHETIC,
    DomainAdaptation,
    accuracy,
    confusion,
    discrimination,
    reversal_schedule,
    reverse_gradient,
)
from tests.lightning_modules.domains import SOURCES, STRATEGIES, filmed, of_source, two_domains, unlabelled
from tests.lightning_modules.tiny_estimators import TINY
from tests.tiny import SIZE, rendered_people, tiny_hmr


@pytest.fixture(scope="module")
def both() -> PoseBatch:
    return two_domains()


def estimator(domain: DomainAdaptation | None, **changes: Any) -> HMR:
    model = tiny_hmr(**{"domain": domain, "dropout": 0.0, **changes})
    if domain is not None:
        domain.tell_sources(SOURCES)
    return model


def gradients(model: HMR, batch: PoseBatch, step: int, progress: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Of the domain's loss alone: on the mixer, the extractor and the head, as vectors (0 where there is none)."""
    assert model.domain is not None
    model.zero_grad()
    features = model.regress(batch).features
    assert features is not None
    terms, _ = model.domain.losses(features, model.domain.domains(batch.key), batch.weight, step, progress)
    torch.stack(list(terms.values())).sum().backward()
    parts = (model.domain, [model.backbone, model.pool], model.head)
    flat = []
    for part in parts:
        weights = [p for m in (part if isinstance(part, list) else [part]) for p in m.parameters()]
        flat.append(torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in weights]))
    return flat[0], flat[1], flat[2]


# -- what each stage moves -------------------------------------------------------------------------------------------


def test_stage_one_moves_the_mixer_alone(both: PoseBatch) -> None:
    model = estimator(DomainConfusion())
    mixer, extractor, head = gradients(model, both, step=0)
    assert mixer.abs().sum() > 0
    assert extractor.abs().sum() == head.abs().sum() == 0


def test_stage_two_moves_the_extractor_alone(both: PoseBatch) -> None:
    model = estimator(DomainConfusion())
    mixer, extractor, head = gradients(model, both, step=1)
    assert extractor.abs().sum() > 0
    assert mixer.abs().sum() == head.abs().sum() == 0


def test_both_stages_at_once_are_the_two_stages(both: PoseBatch) -> None:
    """From the same weights and forward pass the gradients are the same, to the bit."""
    alternating, together = (estimator(DomainConfusion(period=p)) for p in (1, 0))
    first, second = (gradients(copy.deepcopy(alternating), both, step) for step in (0, 1))
    at_once = gradients(together, both, 0)
    assert torch.equal(at_once[0], first[0])
    assert torch.equal(at_once[1], second[1])


@pytest.mark.parametrize(("period", "first"), [(1, [1, 0, 1, 0, 1, 0]), (2, [1, 1, 0, 0, 1, 1]), (0, [1] * 6)])
def test_stages_take_turns(period: int, first: list[int]) -> None:
    said = [DomainConfusion(period).trains(step) for step in range(6)]
    assert [t.mixer for t in said] == [bool(f) for f in first]
    assert [t.estimator for t in said] == [period == 0 or not f for f in first]


def test_the_extractor_gets_the_reversed_gradient(both: PoseBatch) -> None:
    """Minus weight times lambda_p of what would help the mixer; the mixer gets its own as it is."""
    plain = estimator(DomainConfusion(period=0))
    features = plain.regress(both).features
    assert features is not None
    loss = discrimination(plain.domain.says(features), plain.domain.domains(both.key), both.weight)
    weights = [p for m in (plain.backbone, plain.pool) for p in m.parameters()]
    helpful = torch.autograd.grad(loss, [*plain.domain.parameters(), *weights], allow_unused=True)
    every = [*plain.domain.parameters(), *weights]
    flat = [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(every, helpful, strict=True)]
    own, other = torch.cat(flat[: len(flat) - len(weights)]), torch.cat(flat[len(flat) - len(weights) :])
    mixer, extractor, _ = gradients(estimator(GradientReversal(weight=0.5)), both, 0, progress=0.3)
    torch.testing.assert_close(mixer, own)
    torch.testing.assert_close(extractor, -0.5 * reversal_schedule(0.3) * other)
    assert gradients(estimator(GradientReversal(weight=0.5)), both, 0, progress=0.0)[1].abs().sum() == 0


def test_reversal_and_its_schedule() -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = reverse_gradient(x, 0.25)
    assert torch.equal(y, x)
    (y * torch.tensor([3.0, 5.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [-0.75, -1.25]
    assert reversal_schedule(0.0) == 0
    assert reversal_schedule(0.1) == pytest.approx(math.tanh(0.5))  # 2 / (1 + exp(-2x)) - 1 is tanh x
    assert reversal_schedule(1.0) == reversal_schedule(7.0) == pytest.approx(0.9999, abs=1e-4)
    assert reversal_schedule(0.1, gamma=2.0) < reversal_schedule(0.1)


# -- the losses ------------------------------------------------------------------------------------------------------


def test_losses_of_known_logits() -> None:
    confident = torch.tensor([[9.0, 0.0], [0.0, 9.0], [0.0, 9.0]])  # says real, synthetic, synthetic
    domain, weight = torch.tensor([REAL, SYNTHETIC, REAL]), torch.ones(3)
    # Domains count alike: half of the reals are right, all synthetics are.
    assert accuracy(confident, domain, weight).item() == pytest.approx(0.75)
    low, high = math.log1p(math.exp(-9.0)), 9 + math.log1p(math.exp(-9.0))
    assert discrimination(confident, domain, weight).item() == pytest.approx(((low + high) / 2 + low) / 2)
    assert confusion(confident, domain, weight).item() == pytest.approx((low + high) / 2 - math.log(2))
    assert confusion(torch.zeros(3, 2), domain, weight).item() == pytest.approx(0.0, abs=1e-6)
    # A sample of weight 0 is not there, whatever the mixer says of it.
    spoilt = torch.cat([confident, torch.full((1, 2), torch.nan)])
    more, zero = torch.cat([domain, domain[:1]]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    for figure in (accuracy, discrimination, confusion):
        assert figure(spoilt, more, zero).item() == pytest.approx(figure(confident, domain, weight).item())


@pytest.mark.parametrize("name", list(STRATEGIES))
@pytest.mark.parametrize("which", ["synthetic", "real", "unreadable", "one real"])
def test_batches_that_lack_something(both: PoseBatch, name: str, which: str) -> None:
    """One domain only, unlabelled real pictures only, none that could be read: finite, and nothing is learnt from
    domains that cannot be compared.
    """
    batch = {"synthetic": both[:4], "real": both[4:], "one real": both[4:5]}.get(which, both)
    if which == "unreadable":
        batch = batch.replace(weight=torch.zeros(len(batch)))
    model = estimator(STRATEGIES[name]())
    loss = model.training_step(batch, 0)
    loss.backward()
    assert loss.isfinite()
    for number, p in model.named_parameters():
        assert p.grad is None or p.grad.isfinite().all(), number
    assert sum(p.grad.abs().sum() for p in model.domain.parameters() if p.grad is not None) == 0
    for step in (0, 1):
        assert all(g.isfinite().all() for g in gradients(model, batch, step))


def test_bfloat16(both: PoseBatch) -> None:
    for name in STRATEGIES:
        model = estimator(STRATEGIES[name]())
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.training_step(both, 0)
        loss.backward()
        assert loss.dtype == torch.float32
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_pictures_without_labels_give_no_pose_loss(both: PoseBatch) -> None:
    """What is left acts on what is said, not on labels: joint limits and the prior on shape."""
    from lightning_modules.losses import LossWeights

    model = estimator(None, loss=LossWeights(limits=0.0, shape_prior=0.0))
    assert model.training_step(both[4:], 0).item() == 0


# -- what it is for --------------------------------------------------------------------------------------------------

PEOPLE, STEPS = 64, 200


@pytest.fixture(scope="module")
def worlds() -> tuple[PoseBatch, PoseBatch]:
    """As many synthetic people as filmed ones without labels, to train on, and others to test on."""
    people = rendered_people(range(1000, 1000 + 2 * PEOPLE))
    real = unlabelled(of_source(people, 0)).replace(image=filmed(people.image))
    return tuple(
        PoseBatch.cat([of_source(people[part], 1), real[part]]) for part in (slice(None, PEOPLE), slice(PEOPLE, None))
    )  # type: ignore[return-value]


def train(model: HMR, batch: PoseBatch, steps: int) -> list[float]:
    """Returns the mixer's accuracy at each step. The mixer learns five times as fast."""
    generator, said = torch.Generator().manual_seed(0), []
    mixer, own = model.split_parameters()
    own = [p for p in own if p.requires_grad]
    optimizer = torch.optim.AdamW([{"params": own, "lr": 1e-3}, *([{"params": mixer, "lr": 5e-3}] if mixer else [])])
    for step in range(steps):
        half = [torch.randperm(PEOPLE, generator=generator)[:16] + start for start in (0, PEOPLE)]
        some = batch[torch.cat(half)]
        loss, features = model._pose_loss(some)
        if model.domain is not None:
            domains = model.domain.domains(some.key)
            terms, logits = model.domain.losses(features, domains, some.weight, step, step / steps)
            loss = loss + sum(terms.values())
            said.append(float(accuracy(logits, domains, some.weight)))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(own, 1.0)
        optimizer.step()
    return said


def probe(model: HMR, train: PoseBatch, test: PoseBatch) -> float:
    """How well a fresh linear classifier (ridge regression) on the features tells the test set's domains apart."""
    with torch.inference_mode():
        fit, held = (model.eval().regress(b).features for b in (train, test))
    assert fit is not None
    assert held is not None
    mean, std = fit.mean(0), fit.std(0) + 1e-4
    fit, held = (fit - mean) / std, (held - mean) / std
    sign, truth = (2.0 * b.key[:, 0] - 1 for b in (train, test))
    weights = torch.linalg.solve(fit.T @ fit + 10 * torch.eye(fit.shape[1]), fit.T @ sign)
    return float(((held @ weights) * truth > 0).float().mean())


def test_the_mixer_learns_to_tell_domains_apart(worlds: tuple[PoseBatch, PoseBatch]) -> None:
    """Stage 1 alone: above chance on pictures that it did not learn from, while the features stay."""
    model = estimator(DomainConfusion(period=10**6), pool="avg", lr=1e-3).eval()
    name = model.weights_hash()
    optimizer = torch.optim.AdamW(model.domain.parameters(), lr=1e-3)
    for _ in range(40):
        optimizer.zero_grad()
        model.training_step(worlds[0], 0).backward()
        optimizer.step()
    with torch.inference_mode():
        logits = model.domain.says(model.regress(worlds[1]).features)
    assert accuracy(logits, model.domain.domains(worlds[1].key), worlds[1].weight) > 0.75
    assert model.weights_hash() == name


@pytest.fixture(scope="module")
def without(worlds: tuple[PoseBatch, PoseBatch]) -> float:
    """The probe's accuracy after training without adaptation."""
    plain = estimator(None)
    train(plain, worlds[0], STEPS)
    return probe(plain, *worlds)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["confusion", "reversal"])
def test_adapted_features_do_not_tell_the_domains(
    worlds: tuple[PoseBatch, PoseBatch], without: float, name: str
) -> None:
    model = estimator(STRATEGIES[name](weight=1.0))
    said = train(model, worlds[0], STEPS)
    adapted = probe(model, *worlds)
    print(f"{name}: probe {without:.3f} without, {adapted:.3f} with; mixer {sum(said[-50:]) / 50:.3f}")
    assert without > 0.85
    assert adapted < without - 0.05
    assert sum(said[-50:]) / 50 < 0.85


# -- what users get wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ESTIMATORS.names())
def test_every_registered_estimator_can_be_adapted(name: str) -> None:
    model = ESTIMATORS.get(name)(**{**TINY[name], "domain": DomainConfusion()})
    features = model.regress(PoseBatch.blank(2, model.image_size)).features
    assert model.domain.says(features).shape == (2, 2)


class Silent(HMR):
    """An estimator that does not tell its features."""

    def regress(self, batch: PoseBatch) -> Regression:
        return super().regress(batch)._replace(features=None)


class Unbuilt(HMR):
    """An estimator whose constructor does not end as it should."""

    def load_initial_weights(self) -> None:
        pass


def test_an_estimator_without_features_says_so() -> None:
    options = {"backbone": "test_efficientnet", "image_size": SIZE, "hidden": 32, "channels": 8}
    assert Silent(**options).domain is None
    with pytest.raises(PosesynError, match=r"Silent cannot .*features=\) of shape \(B,F\), got none"):
        Silent(**options, domain=DomainConfusion())
    with pytest.raises(PosesynError, match=r"Unbuilt .*load_initial_weights"):
        Unbuilt(**options, domain=DomainConfusion()).tell_domain(SOURCES)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"weight": -1.0}, "weight >= 0"), ({"lr": 0.0}, "lr > 0"), ({"hidden": [0]}, "widths"), ({"period": -1}, "-1")],
)
def test_settings_that_make_no_sense(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(PosesynError, match=says):
        DomainConfusion(**wrong)
