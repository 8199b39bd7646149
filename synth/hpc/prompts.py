"""Words of Diffusion-HPC: prompts about what people do in MPII and SMART, and those of its few-shot sets.

The lists are those of ZZWENG/Diffusion_HPC: evaluation/mpii_quant_eval.py, evaluation/smart_quant_eval.py and
generate_dataset.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from human.errors import PosesynError
from human.registry import Registry
from synth.jobs import Prompt

#: SMART's six sports by the name of Diffusion-HPC's splits (:mod:`datamodules.readers.smart`).
SMART_ACTIONS = {
    "balancebeam": "doing gymnastics on balance beam",
    "highjump": "doing high jump",
    "diving": "diving",
    "polevault": "doing pole vault",
    "vault": "doing vault",
    "unevenbars": "doing gymnastics on uneven bars",
}
#: MPII's categories of activity that it makes no pictures of.
MPII_LEFT_OUT = ("miscellaneous", "inactivity quiet/light")
_MPII_SHOTS = (
    "a photo of", "a nice photo of", "a high resolution photo of", "a pretty picture of", "an eye level shot of",
    "a full body photo of", "a full body shot of", "a full shot of", "a pretty photo of",
)  # fmt: skip
#: Those of theirs that are one person: a label is about one.
_MPII_SUBJECTS = ("a person", "a woman", "a man", "a child", "an old person", "a teenager", "a young person")
_FEW_SHOT = (
    "a picture of an athlete {}", "a photo of an athlete {}", "a low resolution picture of a person {}",
    "a blurry image of an athlete {}", "a nice shot of a person {}", "a side shot of a person {}",
    "a high speed shot of a person {}", "a slow motion shot of a person {}",
)  # fmt: skip

PROMPTS: Registry[Callable[[str, np.random.Generator], Prompt]] = Registry("prompt template")


@PROMPTS.register("mpii")
def mpii(action: str, rng: np.random.Generator) -> Prompt:
    """A shot of somebody doing a category of MPII's activities; of "sports, tennis" all is said."""
    shot, subject = (words[rng.integers(len(words))] for words in (_MPII_SHOTS, _MPII_SUBJECTS))
    return Prompt(caption=f"{shot} {subject} doing {action}" if action else f"{shot} {subject}", action=action)


@PROMPTS.register("smart")
def smart(action: str, rng: np.random.Generator) -> Prompt:
    """One sentence per sport; anything else is taken for what the athlete does."""
    doing = SMART_ACTIONS.get(action, action)
    return Prompt(caption=f"an athlete is {doing}" if doing else "an athlete", action=doing)


@PROMPTS.register("generated")
def generated(action: str, rng: np.random.Generator) -> Prompt:
    """The words of the paper's tables of generated pictures: of SMART's sports those of "smart", else "mpii"'s."""
    return (smart if action in SMART_ACTIONS else mpii)(action, rng)


@PROMPTS.register("few_shot")
def few_shot(action: str, rng: np.random.Generator) -> Prompt:
    """One of eight kinds of shot of a sport."""
    doing = SMART_ACTIONS.get(action, action)
    template = _FEW_SHOT[rng.integers(len(_FEW_SHOT))]
    return Prompt(caption=" ".join(template.format(doing).split()), action=doing)


@PROMPTS.register("none")
def none(action: str, rng: np.random.Generator) -> Prompt:
    """No words: the real picture alone guides."""
    return Prompt(action=action)


def is_pictured(known: str) -> bool:
    """Whether what the data say is something that pictures are made of."""
    return bool(known) and known not in MPII_LEFT_OUT


def choose_action(actions: Sequence[str], known: str, rng: np.random.Generator) -> str:
    """What a prompt is about: what the data say, else one of the config's ``actions``."""
    if is_pictured(known):
        return known
    return actions[int(rng.integers(len(actions)))] if actions else ""


def check_prompts(name: str) -> Callable[[str, np.random.Generator], Prompt]:
    """The template by name; :class:`PosesynError` lists the others."""
    try:
        return PROMPTS.get(name)
    except PosesynError as error:
        raise PosesynError(f"Diffusion-HPC's prompts: {error}") from error
