"""Words for engines that listen to them: Pose++'s template, with something to say where a job says nothing."""

from __future__ import annotations

import string
from collections.abc import Sequence

from human.errors import PosesynError
from human.rng import generator
from synth.jobs import Job

#: Pose++ (HumanWild, arXiv 2403.11111), §3.
TEMPLATE = "A {gender} {action} {environment}"
GENDERS = ("man", "woman")
#: Ours: the paper's list is not published with it.
ENVIRONMENTS = (
    "in a park", "on a city street", "in a living room", "on a beach", "in a gym", "in an office", "in a forest",
    "in a kitchen", "on a football field", "in a train station", "on a mountain trail", "in a school yard",
)  # fmt: skip
#: Ours, for what spoils a labelled picture: other people, cut limbs, drawings.
NEGATIVE = (
    "drawing, cartoon, painting, mannequin, blurry, low quality, deformed, extra limbs, missing limbs, bad anatomy, "
    "crowd, text, watermark"
)
_FIELDS = {"gender", "action", "environment", "caption"}


def check_template(template: str) -> None:
    """Raises :class:`PosesynError` for a template with other places than gender, action, environment and caption."""
    try:
        named = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise PosesynError(f"the prompt template {template!r} cannot be read ({error}): balance its braces") from error
    if odd := named - _FIELDS:
        raise PosesynError(f"the prompt template {template!r} names {sorted(odd)}; known: {', '.join(sorted(_FIELDS))}")


def prompt_text(
    job: Job,
    template: str = TEMPLATE,
    genders: Sequence[str] = GENDERS,
    environments: Sequence[str] = ENVIRONMENTS,
) -> str:
    """The sentence of one job, never empty.

    An empty gender or environment is drawn from the lists by the job's seed; nothing to draw from leaves "person" and
    no place. An empty action takes the caption's words after its subject ("a person is waving" -> "is waving").
    """
    rng = generator("prompt", job.seed)
    drawn = [options[int(rng.integers(len(options)))] if options else "" for options in (genders, environments)]
    words = job.prompt
    action = words.action or _predicate(words.caption)
    told = {
        "gender": words.gender or drawn[0] or "person",
        "action": action,
        "environment": words.environment or drawn[1],
        "caption": words.caption,
    }
    text = " ".join(template.format(**{k: " ".join(v.split()) for k, v in told.items()}).split())
    return text or "A person"


def _predicate(caption: str) -> str:
    """What follows the subject of a caption; the whole caption where it starts otherwise."""
    words = caption.strip().rstrip(".").split()
    subject = {"person", "man", "woman", "boy", "girl", "someone", "he", "she", "they", "athlete", "dancer", "figure"}
    lowered = [w.lower().strip(",") for w in words]
    for length in (1, 2):
        head = lowered[:length]
        if len(words) > length and head and head[-1] in subject and (length == 1 or head[0] in {"a", "the", "one"}):
            return " ".join(words[length:])
    return " ".join(words)
