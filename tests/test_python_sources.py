"""What Python code may give to a grader: every kind of photograph, many of them, and in another process."""

from __future__ import annotations

import io
import multiprocessing
import pickle
import shutil
import weakref
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fundoscope
from fundoscope.errors import BundleError, PhotographError
from fundoscope.findings import Status
from fundoscope.imaging import Prepared, read


@pytest.fixture(scope="module")
def grader():
    return fundoscope.load("rop")


def every_kind(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    named = io.BytesIO(data)
    named.read()  # stands at its end
    return {
        str(path): path,
        "bytes 2": data,
        "bytes 3": bytearray(data),
        "bytes 4": memoryview(data),
        "bytes 5": np.fromfile(path, np.uint8),
        "file 6": named,
        "array 7": np.asarray(Image.open(path).convert("RGB")),
        "image 8": Image.open(io.BytesIO(data)),
        "image 9": Image.open(path).convert("RGBA"),
    }


def test_every_kind_of_source_gives_the_same_answer_under_a_name_of_its_own(grader, eyes):
    sources = every_kind(eyes[0])
    findings = grader.screen(sources.values())
    assert [finding.file for finding in findings] == list(sources)
    assert len({(finding.status, finding.p_rop) for finding in findings}) == 1
    (alone,) = grader.screen(every_kind(eyes[0])["image 8"])
    assert alone.p_rop == findings[0].p_rop
    for source in every_kind(eyes[0]).values():
        np.testing.assert_array_equal(Prepared.read(source).pixels, read(eyes[0]).pixels)
    with eyes[0].open("rb") as file, Image.open(eyes[0]) as picture:
        assert [finding.file for finding in grader.screen([file, picture])] == [str(eyes[0])] * 2


def test_a_large_jpeg_in_a_file_that_cannot_be_wound_back_is_read_once(eyes):
    class Stream:
        def __init__(self, data: bytes) -> None:
            self._file = io.BytesIO(data)

        def read(self, n: int = -1) -> bytes:
            return self._file.read(n)

    buffer = io.BytesIO()
    field = read(eyes[0]).pixels  # its field is smaller than the frame: the reduction is asked for twice
    frame = np.zeros((1600, 1600, 3), np.uint8)
    frame[500:980, 400:1040] = field
    Image.fromarray(frame).save(buffer, "JPEG")
    whole = Prepared.read(buffer.getvalue(), side=64)
    assert Prepared.read(Stream(buffer.getvalue()), side=64).pixels.shape == whole.pixels.shape


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (None, "photographs of type NoneType"),
        (7, "photographs of type int"),
        ({"left": "left.png"}, "photographs of type dict"),
        (["left.png", None], "photograph 2 is of type NoneType"),
        ([3.5], "photograph 1 is of type float"),
        ([["left.png"]], "photograph 1 is of type list"),
        (np.array(3), "photographs of type numpy.ndarray of shape"),
        (np.zeros(5, np.complex64), "photograph 1 is of type numpy.complex64"),
    ],
)
def test_what_is_no_photograph_is_a_type_error_before_anything_is_read(grader, wrong, said, monkeypatch):
    monkeypatch.setattr(type(grader), "grade_one", lambda *_: pytest.fail("a photograph was read"))
    with pytest.raises(TypeError, match=f"(?s){said}.*Taken are a path, the bytes of a file"):
        grader.screen(wrong)


def test_read_names_the_type_that_it_does_not_take(tmp_path):
    for wrong in (None, 7, ["left.png"]):
        with pytest.raises(TypeError, match=f"is of type {type(wrong).__name__}. Taken are a path"):
            read(wrong)
    with pytest.raises(TypeError, match="binary mode"):
        read(io.StringIO("left"))
    closed = io.BytesIO(b"x")
    closed.close()
    with pytest.raises(PhotographError, match="closed file"):
        read(closed)


def test_a_batch_is_as_many_photographs(grader, eyes):
    batch = np.stack([read(eye).pixels for eye in eyes[:2]])
    apart = grader.screen(list(batch))
    for photographs in (batch, [batch], iter([batch[:1], batch[1:]])):
        findings = grader.screen(photographs)
        assert [finding.file for finding in findings] == ["array 1", "array 2"]
        assert [finding.p_rop for finding in findings] == [finding.p_rop for finding in apart]


def test_a_generator_may_close_its_files_and_fill_one_array_again(grader, eyes):
    def opened():
        for eye in eyes[:2]:
            with eye.open("rb") as file:
                yield file
            with Image.open(eye) as picture:
                yield picture

    def refilled():
        array = np.empty_like(read(eyes[0]).pixels)
        for eye in eyes[:2]:
            array[:] = read(eye).pixels
            yield array

    wanted = [finding.p_rop for finding in grader.screen(eyes[:2])]
    assert [finding.p_rop for finding in grader.screen(opened())] == [p for p in wanted for _ in range(2)]
    assert [finding.p_rop for finding in grader.screen(refilled())] == wanted


def test_one_bad_source_is_its_row(grader, eyes):
    broken = Image.open(io.BytesIO(eyes[0].read_bytes()[:3000]))
    closed = io.BytesIO(b"x")
    closed.close()
    channels_first = np.zeros((3, 96, 96), np.uint8)

    class Lost:
        def read(self, n: int = -1) -> bytes:
            raise RuntimeError("the connection was lost")

    findings = grader.screen(iter([broken, eyes[0], closed, channels_first, Lost()]))
    assert [finding.status for finding in findings] == [Status.FAILED, Status.OK] + 3 * [Status.FAILED]
    assert "truncated" in findings[0].reason
    assert "the connection was lost" in findings[4].reason


def test_a_thousand_arrays_take_no_more_memory_than_a_few(grader, eyes):
    pixels, alive, most = read(eyes[0]).pixels, [], 0

    class Counted(np.ndarray):
        pass

    def arrays():
        nonlocal most
        for _ in range(14):
            array = pixels.copy().view(Counted)
            alive.append(weakref.ref(array))
            most = max(most, sum(reference() is not None for reference in alive))
            yield array
            del array

    assert len(grader.screen(arrays())) == 14
    assert most <= 2 * grader.threads + 3


def test_a_grader_goes_to_another_process_as_the_path_of_its_bundle(grader, eyes, tmp_path):
    assert len(pickle.dumps(grader)) < 20_000  # no network in it
    again = pickle.loads(pickle.dumps(grader))
    assert (again.threads, again.identity) == (grader.threads, grader.identity)
    wanted = [finding.p_rop for finding in grader.screen(eyes[:2])]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        found = list(pool.map(grader.screen, eyes[:2]))
    assert [finding.p_rop for (finding,) in found] == wanted

    moved = tmp_path / "bundle"
    shutil.copytree(grader.bundle.folder, moved)
    parcel = pickle.dumps(fundoscope.load("rop", moved))
    shutil.rmtree(moved)
    with pytest.raises(BundleError, match="is no bundle"):
        pickle.loads(parcel)


def test_the_grader_of_nicking_goes_to_another_process_too(eyes):
    grader = fundoscope.load("nicking")
    again = pickle.loads(pickle.dumps(grader))
    assert again.identity == grader.identity
    assert again.grade(Image.open(eyes[0]))[0].reason == grader.grade(eyes[0])[0].reason
    with pytest.raises(TypeError, match="photograph 2 is of type NoneType"):
        grader.grade([eyes[0], None])


def test_a_second_picture_in_a_file_is_named_in_the_row(grader, eyes):
    eye, other = Image.open(eyes[0]).convert("RGB"), Image.open(eyes[1]).convert("RGB")
    buffer = io.BytesIO()
    eye.save(buffer, "TIFF", save_all=True, append_images=[other])
    (finding,) = grader.screen(buffer)
    assert finding.p_rop == grader.screen(eyes[0])[0].p_rop
    said = "The file holds 2 pictures, of which only the first was looked at"
    assert finding.reason.startswith(said)
    assert said in fundoscope.load("nicking").grade(buffer)[0].reason


def test_no_decision_turns_on_a_hot_pixel_in_a_photograph_of_twelve_bits(grader, eyes):
    for eye in eyes[:1]:
        pixels = read(eye).pixels
        twelve = pixels.astype(np.uint16) << 4
        twelve[3, 3] = 65535
        plain, deep = grader.screen([pixels, twelve])
        assert (deep.status, deep.rop) == (plain.status, plain.rop)
        assert deep.p_rop == pytest.approx(plain.p_rop, abs=0.02)
