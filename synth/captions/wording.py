"""The words of captions: a few ways to say each named state. The first is said where no seed asks for variety."""

from __future__ import annotations

from collections.abc import Sequence

from human.rng import key_hash

WHO = ("a person", "a person", "someone", "a man", "the person")

#: What a person in that posture does.
POSTURES = {
    "handstand": ("is doing a handstand", "does a handstand", "stands upside down on the hands"),
    "headstand": ("is upside down on the head and shoulders", "is upside down on the shoulders"),
    "upside down": ("is upside down", "is upside down in the air", "is turned upside down"),
    "hands and knees": ("is on hands and knees", "is on all fours", "crawls on hands and knees"),
    "plank": ("is in a push-up position", "holds a plank", "is in a plank position"),
    "on hands": ("is balancing on the hands off the ground", "holds the body up on the hands"),
    "bridge": ("arches over backwards on hands and feet", "is in a bridge position on hands and feet"),
    "bent to the floor": ("bends down to touch the floor", "bends down to the ground", "reaches down to the floor"),
    "kneeling": ("is kneeling", "kneels on both knees", "kneels on the ground"),
    "sitting on the floor": ("is sitting on the floor", "sits on the ground", "sits on the floor"),
    "squatting": ("is squatting", "squats down low", "is in a deep squat"),
    "sitting": ("is sitting", "sits down", "sits on a chair"),
    "crouching": ("is crouching", "crouches down", "bends both knees"),
}
ONE_KNEE = ("is kneeling on the {side} knee", "kneels on the {side} knee", "goes down on the {side} knee")
LUNGE = (
    "is lunging onto the {side} leg",
    "lunges forward on the {side} leg",
    "takes a long step with the {side} leg",
)
LYING = {
    "back": ("is lying on the back", "lies on the back", "lies face up on the floor"),
    "stomach": ("is lying on the stomach", "lies face down", "lies on the stomach"),
    "raised": (
        "is lying on the stomach with the upper body raised",
        "pushes the upper body up from the floor",
        "lies face down and lifts the chest",
    ),
    "left": ("is lying on the left side", "lies on the left side"),
    "right": ("is lying on the right side", "lies on the right side"),
}
#: Trunk on the legs, by direction; "far" is more than 45 degrees.
LEAN = {
    "forward": ("leans forward", "is leaning forward"),
    "backward": ("leans back", "is leaning backward"),
    "left": ("leans to the left", "is leaning to the left side"),
    "right": ("leans to the right", "is leaning to the right side"),
}
BEND = {
    "forward": ("bends forward", "is bending over forward", "bends over at the waist"),
    "backward": ("bends far back", "arches backward"),
    "left": ("bends far to the left", "bends over to the left side"),
    "right": ("bends far to the right", "bends over to the right side"),
}
STANDS = ("is standing", "stands", "stands upright")
ONE_LEG = ("is standing on the {side} leg", "stands on the {side} leg", "balances on the {side} leg")

#: "{arm}" is "the left arm", "both arms"; "{hand}" likewise; salience first.
ARMS: dict[str, tuple[float, tuple[str, ...]]] = {
    "above the head": (3.0, ("{arm} raised above the head", "{arm} up over the head", "{hand} up above the head")),
    "raised": (2.8, ("{arm} raised", "{arm} raised high", "{arm} lifted up")),
    "to the side": (
        2.6,
        ("{arm} stretched out to the {out}", "{arm} held out to the {out}", "{arm} extended to the {out}"),
    ),
    "forward": (2.6, ("{arm} stretched out forward", "{arm} reaching forward", "{arm} extended in front")),
    "at the head": (2.6, ("{hand} at the head", "{hand} near the head", "{hand} held to the head")),
    "folded": (2.4, ("{arm} across the chest", "{arm} folded in front of the chest")),
    "on the hip": (2.4, ("{hand} on the {hip}", "{hand} placed on the {hip}")),
    "on the knee": (2.2, ("{hand} on the {knee}", "{hand} resting on the {knee}")),
    "at the feet": (2.5, ("{hand} reaching to the feet", "{hand} at the feet")),
    "behind": (2.2, ("{arm} behind the body", "{arm} swung back", "{arm} stretched backward")),
    "bent to the side": (2.1, ("{arm} bent and out to the {out}", "{elbow} bent and held to the {out}")),
    "bent in front": (
        2.0,
        ("{arm} bent in front of the body", "{hand} held in front of the body", "{hand} in front of the chest"),
    ),
    "bent high": (2.0, ("{elbow} bent and raised", "{arm} bent with the elbow lifted")),
    "on the floor": (1.9, ("{hand} on the floor", "{hand} touching the ground")),
    "bent": (1.4, ("{elbow} bent", "{arm} bent")),
    "down in front": (1.3, ("{arm} reaching down in front", "{arm} hanging down in front")),
    "away from the body": (1.2, ("{arm} held away from the body", "{arm} slightly out to the {out}")),
    "down": (0.3, ("{arm} at the {side}", "{arm} hanging down", "{arm} down by the {side}")),
}
TOGETHER = {
    "above the head": ("the hands together above the head", "both hands joined over the head"),
    "bent in front": ("the hands together in front of the body", "both hands held together in front of the chest"),
    "folded": ("the arms crossed in front of the chest", "the arms folded"),
    "forward": ("the hands together stretched out forward", "both arms reaching forward with the hands together"),
    "behind": ("the hands together behind the back",),
    "raised": ("the hands together raised in front",),
}
LEGS: dict[str, tuple[float, tuple[str, ...]]] = {
    "kicked high forward": (3.2, ("{leg} kicked up high in front", "{leg} raised high to the front")),
    "kicked high back": (3.2, ("{leg} raised high behind", "{leg} kicked up behind")),
    "kicked high sideways": (3.2, ("{leg} kicked up high to the {out}", "{leg} raised high to the {out}")),
    "raised forward": (2.7, ("{leg} raised forward", "{leg} lifted to the front", "{leg} stretched out in front")),
    "raised back": (2.7, ("{leg} raised behind", "{leg} stretched backward", "{leg} lifted back")),
    "raised sideways": (2.7, ("{leg} raised to the {out}", "{leg} lifted sideways")),
    "knee raised": (2.7, ("{knee} raised", "{knee} lifted up in front", "{knee} pulled up")),
    "knee raised sideways": (2.7, ("{knee} raised to the {out}", "{knee} lifted to the {out}")),
    "foot lifted behind": (2.3, ("{foot} lifted behind", "{foot} raised behind the body")),
    "lifted": (2.0, ("{foot} off the ground", "{foot} lifted")),
    "knee bent": (1.6, ("{knee} bent",)),
    "pulled up": (2.2, ("{knee} pulled up to the chest", "{knee} drawn up")),
    "raised": (2.4, ("{leg} raised into the air", "{leg} lifted up")),
    "stretched out": (1.8, ("{leg} stretched out in front", "{leg} straight out")),
    "knee up": (1.8, ("{knee} up", "{knee} drawn up")),
    "folded": (1.5, ("{leg} folded", "{knee} bent")),
}
CROSS_LEGGED = ("the legs crossed", "crossed legs")
STANCES: dict[str, tuple[float, tuple[str, ...]]] = {
    "split": (2.6, ("the legs split wide", "the legs far apart")),
    "wide apart": (2.0, ("the legs wide apart", "the feet wide apart")),
    "apart": (1.5, ("the legs apart", "the feet apart")),
    "spread": (1.9, ("the legs spread", "the legs apart")),
    "crossed": (1.5, ("the legs crossed", "the feet crossed")),
    "left in front": (1.3, ("the left foot in front", "the left leg forward")),
    "right in front": (1.3, ("the right foot in front", "the right leg forward")),
}
TWIST = {
    "left": (1.7, ("the upper body turned to the left", "the torso twisted to the left")),
    "right": (1.7, ("the upper body turned to the right", "the torso twisted to the right")),
}


class Words:
    """Chooses among synonyms, by a key: the same pose and seed give the same words, whatever is captioned beside it."""

    def __init__(self, seed: int | None) -> None:
        self._bits = None if seed is None else key_hash("caption", seed)

    def pick(self, choices: Sequence[str]) -> str:
        """One of ``choices``; the first where there is no seed."""
        if self._bits is None or len(choices) == 1:
            return choices[0]
        self._bits, number = divmod(self._bits, len(choices))
        return choices[number]


def join(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def limb(template: str, which: str) -> str:
    """A template for ``which`` of "left", "right", "both"."""
    both = which == "both"
    names = {
        part: f"both {part}s" if both else f"the {which} {part}" for part in ("arm", "hand", "elbow", "leg", "knee")
    }
    names |= {"foot": "both feet" if both else f"the {which} foot", "out": "sides" if both else which}
    names |= {"hip": "hips" if both else f"{which} hip", "side": "sides" if both else "side"}
    if template.startswith("{hand}"):
        names["knee"] = "knees" if both else "knee"
    return template.format(**names)
