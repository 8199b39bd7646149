"""Pictures and video frames of a data set by the names in its index: "PATH", or "PATH#NUMBER" of a video.

Names come from label files, which may be hostile: one that leaves the data set's folder is refused.
"""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.readers.files import safe_join
from human.errors import PosesynError

Picture = npt.NDArray[np.uint8]

# Frames that are decoded and dropped on the way to a later one, before a search from a key frame is cheaper.
_STRIDE = 64
_MOST_OPEN = 4


def read_picture(root: Path, name: str) -> Picture:
    """(H,W,3) RGB of a picture below ``root``, or of a video's frame "PATH#NUMBER" (from 0).

    Pictures are taken as they are stored: EXIF's orientation, which the labels do not know of, is not looked at.

    Raises:
        PosesynError: no such file or frame, a damaged one (a picture cut short too, which decoders fill with grey), or
            a name that leaves ``root``.
    """
    path, number = split_name(name)
    file = safe_join(root, path, f"a label file of {root}")
    if number is not None:
        return _read_frame(file, number)
    try:
        coded = file.read_bytes()
    except OSError as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else str(error.strerror)
        raise PosesynError(f"cannot read the picture {file}: {why}; restore it from the data set's archive") from None
    bgr = None
    if coded and _is_whole(coded):
        bgr = cv2.imdecode(np.frombuffer(coded, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if bgr is None:
        raise PosesynError(
            f"cannot read the picture {file}: it is damaged or cut short; restore it from the data set's archive"
        )
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def split_name(name: str) -> tuple[str, int | None]:
    """Path and frame number; the latter None for a picture."""
    path, mark, frame = name.rpartition("#")
    return (path, int(frame)) if mark and frame.isdecimal() else (name, None)


def _is_whole(coded: bytes) -> bool:
    """False for a JPEG or PNG without its end; other formats are the decoder's business."""
    if coded[:2] == b"\xff\xd8":
        # A thumbnail's end lies before the scan starts.
        return coded.rfind(b"\xff\xd9") > coded.find(b"\xff\xda", _thumbnail_end(coded))
    if coded[:8] == b"\x89PNG\r\n\x1a\n":
        return b"IEND" in coded[-64:]
    return True


def _thumbnail_end(coded: bytes) -> int:
    """Where the segments that may hold a thumbnail (APP0 .. APP15, comments) end."""
    at = 2
    while at + 4 <= len(coded) and coded[at] == 0xFF and (0xE0 <= coded[at + 1] <= 0xEF or coded[at + 1] == 0xFE):
        at += 2 + int.from_bytes(coded[at + 2 : at + 4], "big")
    return at


# -- videos ------------------------------------------------------------------------------------------------------------
_OPEN: dict[str, tuple[cv2.VideoCapture, int]] = {}  # the videos last read, each with its next frame
_LOCK = threading.Lock()


def _forget_videos() -> None:
    # A decoder's threads do not survive a fork, and closing it would wait for them for ever: one reference too many
    # keeps it, at the interpreter's end too.
    global _LOCK
    _LOCK = threading.Lock()
    for video, _ in _OPEN.values():
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(video))
    _OPEN.clear()


os.register_at_fork(after_in_child=_forget_videos)


def _read_frame(path: Path, number: int) -> Picture:
    """Frame ``number`` of a video; going on in one costs one decoding, jumping back a search from a key frame."""
    with _LOCK:  # who takes a video out of the table owns it
        video, upcoming = _OPEN.pop(str(path), (None, 0))
    if video is None:
        video = _open_video(path)
    if not 0 <= number - upcoming <= _STRIDE:
        video.set(cv2.CAP_PROP_POS_FRAMES, number)
        upcoming = round(video.get(cv2.CAP_PROP_POS_FRAMES))
        if upcoming != number:  # a container without exact seeking: from the start
            video.release()
            video, upcoming = _open_video(path), 0
    while upcoming < number and video.grab():
        upcoming += 1
    good, bgr = video.read()
    if not good or upcoming != number:
        video.release()
        raise PosesynError(f"the video {path} has no readable frame {number}: restore it from the data set's archive")
    with _LOCK:
        if str(path) not in _OPEN:  # else another thread was here meanwhile
            while len(_OPEN) >= _MOST_OPEN:
                _OPEN.pop(next(iter(_OPEN)))[0].release()
            _OPEN[str(path)] = (video, number + 1)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _open_video(path: Path) -> cv2.VideoCapture:
    if not path.is_file():  # asked first: to FFmpeg a name with % is a row of pictures
        raise PosesynError(
            f"cannot read the video {path}: there is no such file; restore it from the data set's archive"
        )
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    video.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
    if not video.isOpened():
        raise PosesynError(f"cannot read the video {path}: it is damaged; restore it from the data set's archive")
    return video
