"""Pictures and frames by name: what is asked for and nothing else, or one clear error."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from datamodules.readers import pictures
from datamodules.readers.pictures import read_picture, split_name
from human.errors import PosesynError

FRAMES = 200
CODECS = {"mp4": "mp4v", "avi": "MJPG", "mkv": "MJPG", "webm": "VP80"}


def drawn(number: int) -> np.ndarray:
    """A frame that tells its number in ten wide bars, in red."""
    image = np.zeros((96, 128, 3), np.uint8)
    for bit in range(10):
        image[10:60, 4 + 12 * bit : 14 + 12 * bit, 0] = 255 * (number >> bit & 1)
    return image


def told(image: np.ndarray) -> int:
    assert image.shape == (96, 128, 3)
    assert image.dtype == np.uint8
    return sum(1 << bit for bit in range(10) if image[15:55, 6 + 12 * bit : 12 + 12 * bit, 0].mean() > 128)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for ending, codec in CODECS.items():
        writer = cv2.VideoWriter(
            str(folder / f"v.{ending}"), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), 30, (128, 96)
        )
        assert writer.isOpened()
        for number in range(FRAMES):
            writer.write(cv2.cvtColor(drawn(number), cv2.COLOR_RGB2BGR))
        writer.release()
    return folder


@pytest.mark.parametrize("ending", CODECS)
@pytest.mark.parametrize(
    "order",
    [range(20), range(30, 0, -1), [0, 199, 3, 70, 150, 149, 148, 2, 2, 2, 198, 0], range(5, 200, 65)],
    ids=["forward", "backward", "jumping", "far"],
)
def test_a_frame_is_the_same_from_wherever_one_comes(videos: Path, ending: str, order: list[int]) -> None:
    assert [told(read_picture(videos, f"v.{ending}#{number}")) for number in order] == list(order)


@pytest.mark.parametrize("ending", CODECS)
@pytest.mark.parametrize("number", [FRAMES, FRAMES + 1, FRAMES + 500, 10**9])
def test_past_the_end_is_told_and_spoils_nothing(videos: Path, ending: str, number: int) -> None:
    with pytest.raises(PosesynError, match=rf"v\.{ending} has no readable frame {number}: restore it"):
        read_picture(videos, f"v.{ending}#{number}")
    assert told(read_picture(videos, f"v.{ending}#{FRAMES - 1}")) == FRAMES - 1


def test_many_videos_and_threads(videos: Path, tmp_path: Path) -> None:
    for k in range(6):
        (tmp_path / f"{k}.avi").write_bytes((videos / "v.avi").read_bytes())
    wrong: list[tuple[int, int]] = []

    def read(thread: int) -> None:
        for step in range(20):
            number = (7 * step + thread) % 60
            if (got := told(read_picture(tmp_path, f"{(step + thread) % 6}.avi#{number}"))) != number:
                wrong.append((number, got))

    threads = [threading.Thread(target=read, args=(t,)) for t in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(pictures._OPEN) <= 4


def test_a_forked_child_reads_and_ends(videos: Path) -> None:
    """Of a process that had a video open: closing the parent's decoder would wait for threads that are not there."""
    program = f"""
import os, signal, sys
from pathlib import Path
from datamodules.readers.pictures import read_picture
first = read_picture(Path({str(videos)!r}), "v.mp4#3").sum()
if child := os.fork():
    signal.alarm(60)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
sys.exit(int(read_picture(Path({str(videos)!r}), "v.mp4#3").sum() != first))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_damaged_video(videos: Path, tmp_path: Path) -> None:
    whole = (videos / "v.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    assert told(read_picture(tmp_path, "cut.avi#10")) == 10
    with pytest.raises(PosesynError, match=r"cut\.avi has no readable frame 199"):
        read_picture(tmp_path, "cut.avi#199")
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "empty.mp4").touch()
    for name in ("noise", "empty"):
        with pytest.raises(PosesynError, match=rf"cannot read the video .*{name}\.mp4: it is damaged"):
            read_picture(tmp_path, f"{name}.mp4#0")
    with pytest.raises(PosesynError, match=r"cannot read the video .*none\.mp4: there is no such file"):
        read_picture(tmp_path, "none.mp4#0")
    # A name with % is a row of pictures to other readers of videos.
    cv2.imwrite(str(tmp_path / "p0.png"), drawn(1))
    with pytest.raises(PosesynError, match="there is no such file"):
        read_picture(tmp_path, "p%d.png#0")


# ----------------------------------------------------------------------------------------------------------- pictures


def test_pictures_as_they_are_stored(tmp_path: Path) -> None:
    image = drawn(341)
    for ending in ("png", "bmp"):
        cv2.imwrite(str(tmp_path / f"p.{ending}"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        np.testing.assert_array_equal(read_picture(tmp_path, f"p.{ending}"), image)
    grey, deep = image[..., 0], image[..., ::-1].astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([image[..., ::-1], grey]))
    np.testing.assert_array_equal(read_picture(tmp_path, "grey.png"), np.repeat(grey[..., None], 3, 2))
    np.testing.assert_array_equal(read_picture(tmp_path, "deep.png"), image)
    np.testing.assert_array_equal(read_picture(tmp_path, "alpha.png"), image)
    (tmp_path / "a#b").mkdir()
    cv2.imwrite(str(tmp_path / "a#b" / "c#d.png"), image[..., ::-1])
    np.testing.assert_array_equal(read_picture(tmp_path, "a#b/c#d.png"), image)


def test_exif_does_not_turn_a_picture(tmp_path: Path) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to look at
    Image.fromarray(drawn(7)).save(tmp_path / "p.jpg", quality=95, exif=exif)
    assert told(read_picture(tmp_path, "p.jpg")) == 7


def thumbnail() -> bytes:
    """A JPEG whose EXIF block holds another whole JPEG."""
    from PIL import Image

    inner = cv2.imencode(".jpg", drawn(1))[1].tobytes()
    exif = Image.Exif()
    exif[0x010E] = inner.decode("latin1")
    block = b"Exif\0\0" + inner
    coded = cv2.imencode(".jpg", drawn(5)[..., ::-1])[1].tobytes()
    return coded[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + coded[2:]


@pytest.mark.parametrize("ending", ["jpg", "thumbnail.jpg", "png", "bmp"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.6, 0.95])
def test_a_picture_cut_short_is_refused_not_filled_with_grey(tmp_path: Path, ending: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    coded = thumbnail() if ending == "thumbnail.jpg" else cv2.imencode(f".{ending}", noise)[1].tobytes()
    (tmp_path / f"p.{ending}").write_bytes(coded)
    assert read_picture(tmp_path, f"p.{ending}").shape == (96, 128, 3)
    (tmp_path / f"p.{ending}").write_bytes(coded[: int(share * len(coded))])
    with pytest.raises(PosesynError, match=rf"cannot read the picture .*p\.{ending}: it is damaged or cut short"):
        read_picture(tmp_path, f"p.{ending}")


def test_junk_after_the_end_of_a_jpeg_is_no_damage(tmp_path: Path) -> None:
    coded = cv2.imencode(".jpg", drawn(9)[..., ::-1])[1].tobytes()
    (tmp_path / "p.jpg").write_bytes(coded + b"\0" * 300)
    assert told(read_picture(tmp_path, "p.jpg")) == 9


def test_missing_pictures_and_folders(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(PosesynError, match=r"none\.jpg: there is no such file; restore it"):
        read_picture(tmp_path, "none.jpg")
    with pytest.raises(PosesynError, match=r"cannot read the picture .*folder\.jpg"):
        read_picture(tmp_path, "folder.jpg")


@pytest.mark.parametrize("mark", ["", "#3"])
@pytest.mark.parametrize(
    "name", ["../secret.png", "images/../../secret.png", "/etc/hostname", "..\\secret.png", "a\0b", "..", "C:/x.png"]
)
def test_a_name_that_leaves_the_data_set_is_refused(tmp_path: Path, name: str, mark: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    cv2.imwrite(str(tmp_path / "secret.png"), drawn(1))
    with pytest.raises(PosesynError, match=r"a label file of .*root names the file"):
        read_picture(root, name + mark)


def test_names() -> None:
    assert split_name("a/b.mp4#12") == ("a/b.mp4", 12)
    assert split_name("a#b/c.png") == ("a#b/c.png", None)
    assert split_name("#b.png") == ("#b.png", None)
    assert split_name("v.mp4#-1") == ("v.mp4#-1", None)
