"""From a finished order to one generation of the pool, exactly once.

The pool itself remembers what it has: a generation is recognised by the seeds, weights, engine and synthesiser of its
rows. Its number is written down before it is committed, and the pool takes a number once, so a second committer of the
same order fails or finds it done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from human.errors import PosesynError
from human.prediction import Estimator
from synth.fleet.folder import PlacedOrder
from synth.intake import Judging, TakenIn, take_in
from synth.planning import Clock
from synth.pool import GenerationInfo, NumberTaken, Pool


def find_generation(
    pool: Pool, tpe: str, engine_config: str, made_by: str, seeds: Iterable[int], least: int = 0
) -> GenerationInfo | None:
    """The generation, of number ``least`` or more, that was made so and has none but these samples: a job that failed
    has none, and a generation is committed wholly.
    """
    wanted = set(seeds)
    for info in pool.generations():
        made = _made_of(pool, info) if info.generation >= least else None
        if made is not None and made[:3] == (tpe, engine_config, made_by) and made[3] <= wanted:
            return info
    return None


def _made_of(pool: Pool, info: GenerationInfo) -> tuple[str, str, str, set[int]] | None:
    """Weights, engine configuration, synthesiser and seeds that a generation was made with."""
    rows = pool.provenance(info.generation)
    tpe, engine, seeds = (rows.column(name).to_pylist() for name in ("tpe", "engine_config", "seed"))
    return (tpe[0], engine[0], info.synthesiser, set(seeds)) if tpe else None


def committed(placed: PlacedOrder, pool: Pool) -> GenerationInfo | None:
    """The generation that an order has become."""
    order = placed.order
    return find_generation(pool, order.tpe, order.spec.config_hash, order.made_by, order.seeds, order.number)


def commit_order(
    placed: PlacedOrder,
    pool: Pool,
    judging: Judging,
    estimator: Estimator,
    clock: Clock | None = None,
    tell: Callable[[int], None] = lambda jobs: None,
) -> TakenIn | GenerationInfo:
    """Judge and commit a finished order; where that was done before, only its generation.

    Raises:
        PosesynError: jobs are left to be made, none could be made, or a result is damaged (run the fleet again).
    """
    done = committed(placed, pool)
    if done is not None:
        return done
    if left := len(placed.todo()):
        raise PosesynError(f"{left} jobs of {placed.path} are not made yet: run `posesyn synth` on its folder")
    order = placed.order
    while True:
        taken = {info.generation for info in pool.generations()}
        noted = placed.note("commit")
        free = noted is not None and noted["generation"] not in taken
        number = noted["generation"] if noted and free else max([order.number - 1, *taken]) + 1
        placed.write_note("commit", {"generation": number})
        try:
            return take_in(
                placed.portions(),
                judging,
                estimator,
                pool,
                number,
                engine=order.spec.engine,
                engine_config=order.spec.config_hash,
                made_by=order.made_by,
                clock=clock or Clock(),
                tell=tell,
            )
        except NumberTaken:  # by another committer of this order, or by another run, which leaves us the next
            done = committed(placed, pool)
            if done is not None:
                return done
