"""Eye, view and day from names and headers: one meaning is guessed, two are not."""

from datetime import date

import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")

from PIL import Image

from fundoscope.server.services.placing import guess_place, read_exif


@pytest.mark.parametrize(
    "path, eye, view",
    [
        ("OD_disc.jpg", "right", "disc"),
        ("wang-os-macula-2.PNG", "left", "macula"),
        ("LeftEye Temporal.jpg", "left", "temporal"),
        ("OS_T.jpg", "left", "temporal"),
        ("R-N (2).jpeg", "right", "nasal"),
        ("N0001_RE_sup.png", "right", "superior"),
        ("右眼_黄斑.jpg", "right", "macula"),
        ("左眼颞侧.jpg", "left", "temporal"),
        ("OD/IMG_0012.jpg", "right", ""),
        ("left/disc/IMG_7.jpg", "left", "disc"),
        ("right\\OS_disc.jpg", "left", "disc"),  # the file's own name speaks before its folder's
        ("OD_OS_disc.jpg", "", "disc"),
        ("OD_superior_temporal.jpg", "right", ""),
        ("IMG_0001.jpg", "", ""),
        ("T.jpg", "", ""),  # a letter alone is a name, not a view
        ("discover.jpg", "", ""),
        ("modern.jpg", "", ""),
        ("<b>OD</b>.jpg", "right", ""),
        ("", "", ""),
    ],
)
def test_eye_and_view_are_guessed_where_one_thing_is_said(path, eye, view):
    guess = guess_place(path)
    assert (guess.eye, guess.view) == (eye, view)


@pytest.mark.parametrize(
    "path, day",
    [
        ("OD_2026-02-09.jpg", date(2026, 2, 9)),
        ("20260209_OD_12.jpg", date(2026, 2, 9)),
        ("2026年2月9日/IMG.jpg", date(2026, 2, 9)),
        ("2026-02-31.jpg", None),
        ("1234567890.jpg", None),
        ("2087-01-01.jpg", None),
        ("IMG_0012.jpg", None),
    ],
)
def test_a_day_is_guessed_where_it_is_one(path, day):
    assert guess_place(path).day == day


def test_exif_tells_moment_and_camera_and_a_broken_block_tells_nothing(tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Clarity", "RetCam\x00 3"
    exif.get_ifd(0x8769)[0x9003] = "2026:02:09 10:11:12"
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg", exif=exif)
    assert read_exif(tmp_path / "a.jpg", ["JPEG"]) == ("2026-02-09 10:11:12", "Clarity RetCam 3")
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    at = data.index(b"Exif") + 10
    data[at : at + 20] = bytes(20)
    (tmp_path / "b.jpg").write_bytes(data)
    assert read_exif(tmp_path / "b.jpg", ["JPEG"]) == ("", "")
