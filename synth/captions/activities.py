"""MPII's names of activities, in words that a sentence can use.

MPII names activities as the Compendium of Physical Activities does: "tennis, singles", "bicycling, mountain",
"rope skipping, general". The part before the first comma is the activity.
"""

from __future__ import annotations

import re

#: What one plays; everything else that is no "-ing" is done.
PLAYED = frozenset(
    {
        "badminton", "baseball", "basketball", "billiards", "bowling", "cricket", "croquet", "curling",
        "football", "golf", "handball", "hockey", "lacrosse", "paddleball", "polo", "racquetball", "rugby",
        "soccer", "softball", "squash", "tennis", "volleyball", "ping-pong", "drums", "guitar", "piano",
        "violin", "trumpet", "flute", "horn", "accordion", "cello", "trombone", "wallyball", "shuffleboard",
        "darts", "kickball", "frisbee"
    }
)  # fmt: skip


def doing(activity: str) -> str:
    """ "is playing tennis" of "tennis, singles"; "" of an empty name.

    >>> doing("tennis, singles"), doing("bicycling, mountain"), doing("yoga, Power"), doing("rope skipping, general")
    ('is playing tennis', 'is bicycling', 'is doing yoga', 'is rope skipping')
    """
    head = re.sub(r"\(.*?\)|[^A-Za-z0-9 '/-]", "", activity.split(",")[0])
    head = " ".join(head.lower().replace("/", " or ").split())[:60].strip()
    if not head:
        return ""
    words = head.split()
    if words[-1] in PLAYED or words[0] in PLAYED:
        return f"is {head}" if words[0].endswith("ing") and words[0] not in PLAYED else f"is playing {head}"
    if words[0].endswith("ing") or words[-1].endswith("ing"):
        return f"is {head}"
    return f"is doing {head}"
