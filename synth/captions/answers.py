"""What a language model answered, made into one caption, or found unusable."""

from __future__ import annotations

import re
import unicodedata

#: Words of a caption, at least and at most; T2M-GPT's text encoder reads 77 tokens.
WORDS = (3, 45)
_TYPOGRAPHY = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": ".", "\u00a0": " "})
_LEAD = re.compile(
    r"^(?:sure[,!.]?\s+)?(?:here(?:'s| is)[^:]*:|(?:answer|caption|output|sentence|assistant)\s*:)\s*", re.I
)
_SHOWS = re.compile(
    r"^(?:in (?:the|this) (?:image|picture|photo)[a-z ]*,\s*"
    r"|(?:the|this) (?:image|picture|photo)[a-z ]* (?:shows|depicts|features)\s+)"
    r"|^(?:there is|we see|i see)\s+",
    re.I,
)
_REFUSAL = re.compile(
    r"\b(?:sorry|as an ai|i can(?:not|'t)|unable to|cannot (?:see|determine|identify)|no person)\b", re.I
)
_SUBJECT = re.compile(
    r"\b(?:person|man|woman|boy|girl|someone|he|she|they|player|child|athlete|figure|individual|guy|lady|dancer|"
    r"skier|runner|rider|climber|swimmer)\b"
)


def clean_answer(answer: str) -> str | None:
    """One sentence in lower case without its full stop; None where the answer is no caption.

    Dropped: quotes, list marks, what introduces the sentence, everything after the first sentence. Unusable: nothing,
    refusals, other alphabets, one word again and again, fewer or more words than :data:`WORDS`.

    >>> clean_answer('Sure! Here is the caption: "A man swings a racket with his right hand." He wears red.')
    'a man swings a racket with his right hand'
    >>> clean_answer("standing on one leg with raised arms.")
    'a person is standing on one leg with raised arms'
    """
    text = answer.translate(_TYPOGRAPHY)
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    letters = sum(c.isalpha() for c in text)
    if letters == 0 or sum(c.isalpha() for c in plain) < 0.95 * letters:
        return None
    for line in plain.splitlines():
        line = re.sub(r"<[^<>]*>|[*_`#\[\]{}|\\~^\x00-\x1f\x7f]", " ", line)
        line = re.sub(r"^\s*(?:[-+>]|\d+[.)])\s+", "", " ".join(line.split()))
        line = _SHOWS.sub("", _LEAD.sub("", line)).strip(" \"'")
        if len(line.split()) >= 2:
            break
    else:
        return None
    sentence = re.split(r"(?<=[a-z\"')0-9])[.!?;]+(?:\s|\"|$)", line, maxsplit=1, flags=re.I)[0].strip(" \"'.,:;!?")
    if _REFUSAL.search(sentence):
        return None
    sentence = sentence[:1].lower() + sentence[1:]
    words = sentence.split()
    if len({w.strip(",.") for w in words}) < 0.5 * len(words):
        return None
    if words and not _SUBJECT.search(sentence.lower()):
        if not words[0].endswith("ing"):
            return None
        sentence = f"a person is {sentence}"
        words = sentence.split()
    if not WORDS[0] <= len(words) <= WORDS[1] or max(map(len, words)) > 30:
        return None
    return sentence
