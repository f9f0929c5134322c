"""DICOM photographs as cameras write them: pixels, colours, names, eyes, pictures, and what is broken."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import dicom_files as made
import numpy as np
import pytest
from test_mutations import mutations  # noqa: F401 - a fixture

from fundoscope.errors import PhotographError, UsageError
from fundoscope.imaging import FramePath, Prepared, read
from fundoscope.runs import walk

RGB = made.photograph()
GREY = made.grey(RGB)
AS_GREY = np.repeat(GREY[..., None], 3, 2)
J = "1.2.840.10008.1.2.4."
NATIVE = {"implicit": "1.2.840.10008.1.2", "explicit": made.NATIVE, "deflated": "1.2.840.10008.1.2.1.99", "big": "1.2.840.10008.1.2.2"}  # fmt: skip


def halved(ybr):
    """Y, Y, Cb, Cr for each two pixels: colours at half the width."""
    pairs = ybr.reshape(ybr.shape[0], -1, 2, 3)
    return np.concatenate([pairs[..., 0], pairs[..., 1:].mean(2).astype(np.uint8)], -1)


def cases():
    """Name -> (bytes of a file, the pixels that it must give, the largest difference allowed, and the mean one)."""
    ybr, found = made.to_ybr(RGB), {}
    for name, syntax in NATIVE.items():
        found[f"rgb {name}"] = made.encode(made.dataset(syntax=syntax), RGB), RGB, 0, 0
        planes = made.dataset(syntax=syntax, PlanarConfiguration=1)
        found[f"planes {name}"] = made.encode(planes, np.moveaxis(RGB, 2, 0)), RGB, 0, 0
        full = made.dataset(syntax=syntax, photometric="YBR_FULL")
        found[f"ybr full {name}"] = made.encode(full, ybr), RGB, 2, 0.5
        half = made.dataset(syntax=syntax, photometric="YBR_FULL_422")
        found[f"ybr halved {name}"] = made.encode(half, halved(ybr)), RGB, 80, 3
        found[f"white {name}"] = (
            made.encode(made.dataset(syntax=syntax, photometric="MONOCHROME1"), 255 - GREY),
            AS_GREY,
            0,
            0,
        )
        found[f"black {name}"] = (
            made.encode(made.dataset(syntax=syntax, photometric="MONOCHROME2"), GREY),
            AS_GREY,
            0,
            0,
        )
        order = ">u2" if name == "big" else "<u2"
        wide = made.dataset(syntax=syntax, photometric="MONOCHROME2", allocated=16)
        found[f"eight in sixteen {name}"] = made.encode(wide, GREY.astype(order)), AS_GREY, 0, 0
    for kind in ("wide", "capture", "photo"):
        found[f"class {kind}"] = made.encode(made.dataset(kind), RGB), RGB, 0, 0
    found["rgb eight in sixteen"] = made.encode(made.dataset(allocated=16), RGB.astype("<u2")), RGB, 0, 0
    deep = made.dataset(photometric="MONOCHROME2", bits=12, allocated=16)
    found["twelve bits"] = made.encode(deep, (GREY.astype("<u2") << 4) | 7), AS_GREY, 0, 0
    high = made.dataset(photometric="MONOCHROME2", bits=12, allocated=16, HighBit=15)
    found["twelve bits, the upper ones"] = made.encode(high, GREY.astype("<u2") << 8), AS_GREY, 0, 0
    full_width = made.dataset(photometric="YBR_FULL_422")
    found["ybr called halved"] = made.encode(full_width, ybr), RGB, 2, 0.5
    for bits in (8, 16):
        indices, attributes, colours = made.palette(RGB, bits)
        found[f"palette {bits}"] = (
            made.encode(made.dataset(photometric="PALETTE COLOR", **attributes), indices),
            colours,
            0,
            0,
        )
        runs = made.dataset(syntax="1.2.840.10008.1.2.5", photometric="PALETTE COLOR", **attributes)
        found[f"palette {bits} in runs"] = made.encode(runs, frames=[made.rle(indices)]), colours, 0, 0
    for quality, subsampling in ((95, 2), (95, 0), (80, 1)):
        one = made.dataset(syntax=J + "50", photometric="YBR_FULL_422")
        tolerance = (90, 4) if subsampling else (30, 1)
        found[f"jpeg {quality}/{subsampling}"] = (
            made.encode(one, frames=[made.jpeg(RGB, subsampling, quality)]),
            RGB,
            *tolerance,
        )
    extended = made.dataset(syntax=J + "51", photometric="YBR_FULL")
    found["jpeg extended"] = made.encode(extended, frames=[made.jpeg(RGB, 0)]), RGB, 30, 1
    for called, named in (("RGB", b"\1\2\3"), ("RGB", b"RGB"), ("YBR_FULL", b"\1\2\3")):
        channels = ybr if called == "YBR_FULL" else RGB
        one = made.dataset(syntax=J + "50", photometric=called)
        found[f"jpeg of {called} named {named}"] = (
            made.encode(one, frames=[made.jpeg_of_channels(channels, named)]),
            RGB,
            20,
            1,
        )
    for called, lossless, mct, channels in (
        ("YBR_RCT", True, True, RGB), ("YBR_ICT", False, True, RGB), ("RGB", True, False, RGB), ("RGB", True, True, RGB),
        ("YBR_FULL", True, False, ybr),
    ):  # fmt: skip
        one = made.dataset(syntax=J + ("90" if lossless else "91"), photometric=called)
        frame = made.jpeg_2000(channels, lossless, mct)
        found[f"jpeg 2000 {called} {mct}"] = made.encode(one, frames=[frame]), RGB, 2 if lossless else 12, 0.5
    grey_j2k = made.dataset(syntax=J + "90", photometric="MONOCHROME1")
    found["jpeg 2000 white"] = made.encode(grey_j2k, frames=[made.jpeg_2000(255 - GREY, mct=False)]), AS_GREY, 0, 0
    for called, values, wanted in (("RGB", RGB, RGB), ("YBR_FULL", ybr, RGB), ("MONOCHROME2", GREY, AS_GREY)):
        one = made.dataset(syntax="1.2.840.10008.1.2.5", photometric=called)
        found[f"runs {called}"] = made.encode(one, frames=[made.rle(values)]), wanted, 2, 0.5
    runs = made.dataset(syntax="1.2.840.10008.1.2.5", photometric="MONOCHROME2", bits=12, allocated=16)
    found["runs of twelve bits"] = made.encode(runs, frames=[made.rle(GREY.astype(np.uint16) << 4)]), AS_GREY, 0, 0
    several = made.dataset("many", syntax=made.NATIVE, NumberOfFrames=3)
    found["several"] = made.encode(several, np.stack([RGB, RGB // 2, RGB // 3])), RGB, 0, 0
    without = made.encode(made.dataset(), RGB)[132:]
    found["no preamble"] = without, RGB, 0, 0
    return found


CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_every_kind_gives_the_pixels_of_its_source(name):
    data, wanted, most, mean = CASES[name]
    pixels = read(data, name).pixels
    assert pixels.shape == wanted.shape
    difference = np.abs(pixels.astype(int) - wanted)
    assert difference.max() <= most
    assert difference.mean() <= mean


def test_there_are_as_many_kinds_as_are_promised():
    assert len(CASES) >= 55  # and those of dcmtk below


# --- colours


WRONG = {
    "jpeg that is ybr and called rgb": (made.dataset(syntax=J + "50"), [made.jpeg(RGB, 0)], "calls the colours RGB"),
    "jpeg that is rgb and called ybr": (
        made.dataset(syntax=J + "50", photometric="YBR_FULL_422"), [made.jpeg_of_channels(RGB)], "read as RGB",
    ),
    "native ybr called rgb": (made.dataset(), made.to_ybr(RGB), "read as YBR"),
    "native rgb called ybr": (made.dataset(photometric="YBR_FULL"), RGB, "read as RGB"),
    "jpeg 2000 of rgb called ybr": (
        made.dataset(syntax=J + "90", photometric="YBR_FULL"), [made.jpeg_2000(RGB, mct=False)], "read as RGB",
    ),
    "runs of ybr called rgb": (made.dataset(syntax="1.2.840.10008.1.2.5"), [made.rle(made.to_ybr(RGB))], "read as YBR"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_colours_under_a_wrong_name_are_put_right_and_said(name):
    found, pixels, said = WRONG[name]
    data = made.encode(found, **({"frames": pixels} if isinstance(pixels, list) else {"pixels": pixels}))
    photograph = read(data, name)
    assert np.abs(photograph.pixels.astype(int) - RGB).mean() < 1.5
    assert said in photograph.remark


def test_red_and_blue_exchanged_are_refused():
    with pytest.raises(PhotographError, match="red and blue look exchanged"):
        read(made.encode(made.dataset(), RGB[..., ::-1]), "exchanged")


def test_a_green_picture_is_refused():
    green = RGB[..., (1, 0, 2)]
    with pytest.raises(PhotographError, match="green or blue"):
        read(made.encode(made.dataset(), green), "green")


def test_a_simulated_eye_keeps_its_colours():
    from fundoscope.imaging.dicom_pixels import looks_misread
    from fundoscope.simulate import infant

    eye = infant(3, camera="retcam", level="good", size=320).pixels
    assert not looks_misread(eye)
    assert looks_misread(eye[..., ::-1])
    assert looks_misread(made.to_ybr(eye))


# --- headers


def header(**more):
    return read(made.encode(made.dataset(**more), RGB), "one").header


def test_the_header_tells_eye_patient_and_exam():
    found = header(ImageLaterality="L", Laterality="L")
    assert (found.eye, found.patient, found.exam_date) == ("left", "4711 (HOSPITAL)", "2026-03-01")
    assert (found.accession, found.device, found.doubts) == ("A-1", "Camera Works Cam 3", ())


def test_the_eye_is_the_images_then_the_series():
    assert header(ImageLaterality=None, Laterality="L").eye == "left"
    both = header(ImageLaterality="R", Laterality="L")
    assert both.eye == "right"
    assert "contradicts itself" in both.doubts[0]
    unknown = header(ImageLaterality="B")
    assert unknown.eye == ""
    assert "both eyes" in unknown.doubts[0]


def test_what_is_burnt_in_or_impossible_is_in_the_remark():
    found = made.dataset(BurnedInAnnotation="YES", PatientBirthDate="20260401")
    remark = read(made.encode(found, RGB), "one").remark
    assert "burnt into the picture" in remark
    assert "before the patient's birth" in remark


NAMES = {
    "Chinese, UTF-8": ("ISO_IR 192", "Wang^XiaoDong=王^小东", "utf-8"),
    "Chinese, GB 18030": ("GB18030", "Wang^XiaoDong=王^小东", "gb18030"),
    "Japanese, alphabetic, ideographic, phonetic": (
        ["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "iso2022_jp",
    ),
    "Latin": ("ISO_IR 100", "Müller^Jörg", "latin-1"),
    "Korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", None),
}  # fmt: skip


def with_name(charset, raw):
    """A file whose name is these bytes, whatever its character set says."""
    found = made.dataset(SpecificCharacterSet=None, PatientName="#" * (len(raw) + len(raw) % 2))
    data = made.encode(found, RGB).replace(b"#" * (len(raw) + len(raw) % 2), raw + b" " * (len(raw) % 2))
    if charset is None:
        return data
    value = charset.encode() + b" " * (len(charset) % 2)
    element = b"\x08\x00\x05\x00CS" + len(value).to_bytes(2, "little") + value
    at = data.index(b"\x08\x00\x08\x00CS")
    return data[:at] + element + data[at:]


@pytest.mark.parametrize("kind", NAMES)
def test_names_come_through_whole(kind):
    charset, name, _ = NAMES[kind]
    found = made.dataset(SpecificCharacterSet=charset, PatientName=name)
    read_back = read(made.encode(found, RGB), kind).header
    assert read_back.patient_name == name
    assert read_back.doubts == ()


@pytest.mark.parametrize("charset", [None, "ISO_IR 100", "ISO_IR 6"])
def test_utf_8_under_another_name_is_read_and_said(charset):
    found = read(with_name(charset, "Wang^XiaoDong=王^小东".encode()), "one").header
    assert found.patient_name == "Wang^XiaoDong=王^小东"
    assert "although the header does not say so" in found.doubts[0]


@pytest.mark.parametrize("charset", [None, "ISO_IR 100", "ISO_IR 6", "ISO_IR 192"])
@pytest.mark.parametrize("name", ["王^小东", "欧阳^明", "李^娜"])
def test_a_name_in_a_wrong_character_set_is_marked(charset, name):
    found = read(with_name(charset, name.encode("gb18030")), "one").header
    assert "not whole" in found.doubts[0]


# --- several pictures, folders, DICOMDIR


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_each_picture_of_a_file_is_a_view(tmp_path):
    frames = np.stack([RGB, RGB // 2, RGB // 3])
    path = write(tmp_path / "several.dcm", made.encode(made.dataset("many", NumberOfFrames=3), frames))
    mentions = walk([str(path)]).mentions
    assert [mention.path for mention in mentions] == [f"{path}#{n}" for n in (1, 2, 3)]
    assert [int(np.abs(Prepared.read(m.source, m.path).pixels.astype(int) - f).max()) for m, f in zip(mentions, frames, strict=True)] == [0, 0, 0]  # fmt: skip
    assert {mention.eye for mention in mentions} == {"right"}
    assert "3 frames, of which only the first" in read(path).remark
    with pytest.raises(PhotographError, match="holds 3 frames, not 4"):
        read(FramePath(path, 4))


def test_compressed_frames_are_told_apart_without_an_offset_table(tmp_path):
    frames = [made.jpeg(RGB, 0), made.jpeg(RGB // 2, 0)]
    found = made.dataset(syntax=J + "50", photometric="YBR_FULL", NumberOfFrames=2)
    path = write(tmp_path / "two.dcm", made.encode(found, frames=frames))
    second = read(FramePath(path, 2)).pixels
    assert np.abs(second.astype(int) - RGB // 2).mean() < 1.5


def test_a_folder_gives_its_photographs_and_counts_other_objects(tmp_path):
    photograph = made.encode(made.dataset(), RGB)
    write(tmp_path / "a" / "IM000001", photograph)
    write(tmp_path / "a" / "1.2.826.0.1.17", photograph)
    write(tmp_path / "b.dcm", photograph)
    write(tmp_path / "SR000001", made.encode(made.dataset("1.2.840.10008.5.1.4.1.1.88.34"), RGB))
    write(tmp_path / "ours", made.encode(made.dataset("capture", Manufacturer="Fundoscope"), RGB))
    write(tmp_path / "README", b"nothing")
    found = walk([str(tmp_path)])
    assert [mention.file.name for mention in found.mentions] == ["1.2.826.0.1.17", "IM000001", "b.dcm"]
    assert dict(found.skipped.counts) == {"other file": 1, "DICOM object of another kind": 2}


def directory(files):
    from pydicom.dataset import Dataset

    found = made.dataset("1.2.840.10008.1.3.10", Rows=None, Columns=None)
    records = []
    for parts in files:
        record = Dataset()
        record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", parts
        records.append(record)
    found.DirectoryRecordSequence = records
    return made.encode(found)


def test_a_dicomdir_names_its_photographs(tmp_path):
    photograph = made.encode(made.dataset(), RGB)
    write(tmp_path / "dicom" / "im000001", photograph)
    write(tmp_path / "DICOM" / "IM000002", photograph)
    path = write(tmp_path / "DICOMDIR", directory([["DICOM", "IM000002"], ["DICOM", "IM000003"]]))
    mentions = walk([str(path)]).mentions
    assert [mention.path for mention in mentions] == [str(tmp_path / "DICOM" / n) for n in ("IM000002", "IM000003")]
    assert (mentions[0].infant, mentions[1].infant) == ("4711 (HOSPITAL)", None)
    assert [m.file.name for m in walk([str(tmp_path)]).mentions] == ["IM000002", "im000001"]
    small = write(tmp_path / "copy" / "DICOMDIR", directory([["DICOM", "IM000001"]]))
    write(tmp_path / "copy" / "dicom" / "im000001", photograph)
    assert [mention.file.exists() for mention in walk([str(small)]).mentions] == [True]


def test_a_dicomdir_leads_nowhere_else(tmp_path):
    path = write(tmp_path / "DICOMDIR", directory([["..", "SECRET"]]))
    with pytest.raises(UsageError, match="lies outside its folder"):
        walk([str(path)])


def test_eyes_come_from_the_header_where_no_table_says(tmp_path):
    from fundoscope.runs import run

    for name, side in (("IM1", "R"), ("IM2", "L"), ("IM3", "L")):
        write(tmp_path / "in" / name, made.encode(made.dataset(ImageLaterality=side), RGB))
    table = write(tmp_path / "in" / "cohort.csv", b"image,eye\nIM1,left\nIM2,\n")
    grader = made.BrightnessGrader(dicom=False)
    run(grader, walk([str(tmp_path / "in" / n) for n in ("IM1", "IM2", "IM3")]), tmp_path / "out")
    eyes = list(csv.DictReader((tmp_path / "out" / "eyes.csv").open()))
    assert [(e["infant"], e["eye"], e["exam"], e["views"]) for e in eyes] == [
        ("4711 (HOSPITAL)", "right", "2026-03-01", "1"), ("4711 (HOSPITAL)", "left", "2026-03-01", "2"),
    ]  # fmt: skip
    run(grader, walk([str(table)]), tmp_path / "table")
    eyes = list(csv.DictReader((tmp_path / "table" / "eyes.csv").open()))
    assert [(e["eye"], e["views"]) for e in eyes] == [("left", "2")]
    reasons = [row["reason"] for row in csv.DictReader((tmp_path / "table" / "results.csv").open())]
    assert "the table was believed" in reasons[0]
    assert "the table was believed" not in reasons[1]


# --- limits and broken files


def test_too_many_pixels_are_refused_before_they_are_decoded():
    with pytest.raises(PhotographError, match="60000x60000 pixels are over the limit"):
        read(made.encode(made.dataset(rows=60000, columns=60000), b"\0" * 64), "huge")
    big = bytearray(made.jpeg(RGB))
    at = big.index(b"\xff\xc0")
    big[at + 5 : at + 9] = b"\xea\x60\xea\x60"
    with pytest.raises(PhotographError, match="60000x60000 pixels are over the limit"):
        read(made.encode(made.dataset(syntax=J + "50", photometric="YBR_FULL_422"), frames=[bytes(big)]), "lying")


def test_a_deflated_bomb_is_not_unfolded(monkeypatch):
    from fundoscope.imaging import dicom_header

    monkeypatch.setattr(dicom_header, "MAX_BYTES", 1 << 20)
    bomb = made.encode(made.dataset(syntax=NATIVE["deflated"], rows=1024, columns=1024), bytes(3 << 20))
    assert len(bomb) < 10_000
    with pytest.raises(PhotographError, match="unfolds to more than 1 MiB"):
        read(bomb, "bomb")


def test_runs_never_give_more_than_the_picture_has():
    from fundoscope.imaging.dicom_pixels import unpack_rle

    segment = bytes([129, 7]) * 100_000
    frame = np.array([1, 64, *[0] * 14], "<u4").tobytes() + segment
    assert unpack_rle(frame, 4, 8, 1, 1).tolist() == [[7] * 8] * 4
    with pytest.raises(ValueError, match="cut short"):
        unpack_rle(frame[:80], 40, 80, 1, 1)


def test_runs_are_unpacked_alike_by_pillow_and_here():
    from fundoscope.imaging.dicom_pixels import _unpack_bytes, _unpack_slowly

    rng = np.random.default_rng(2)
    for start in (
        b"",
        bytes([257 - 90, 7]),
        bytes([128, 128]),
    ):  # a run beyond the end of a row of 40; bytes that say nothing
        segment = start
        for _ in range(12):
            segment += bytes([257 - 25, int(rng.integers(256)), 14]) + rng.bytes(15)
        for length in (480, 470):
            assert np.array_equal(_unpack_bytes(segment, length), _unpack_slowly(segment, length))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (made.dataset("1.2.840.10008.5.1.4.1.1.77.1.5.4"), "class Ophthalmic Tomography Image Storage, no photograph"),
        (made.dataset(Manufacturer="Fundoscope"), "an answer of Fundoscope"),
        (made.dataset(syntax=J + "102"), "compressed as MPEG-4"),
        (made.dataset(photometric="YBR_PARTIAL_420"), "'YBR_PARTIAL_420', which is not read"),
        (made.dataset(SamplesPerPixel=1), "contradicts itself: 1 numbers a pixel, and colours RGB"),
        (made.dataset(rows=240), "pixels are missing"),
    ],
)
def test_what_is_not_read_is_refused_by_name(found, said):
    compressed = found.file_meta.TransferSyntaxUID not in NATIVE.values()
    with pytest.raises(PhotographError, match=said):
        read(made.encode(found, **({"frames": [b"film"]} if compressed else {"pixels": RGB})), "one")


def test_without_pydicom_the_extra_is_named_and_no_other_file_needs_it(tmp_path):
    from PIL import Image

    Image.fromarray(RGB).save(tmp_path / "eye.png")
    path = write(tmp_path / "eye.dcm", made.encode(made.dataset(), RGB))
    script = (
        "import sys\nfrom fundoscope.imaging import read\nfrom fundoscope.runs import walk\n"
        f"walk([{str(tmp_path / 'eye.png')!r}]); read({str(tmp_path / 'eye.png')!r})\nprint('pydicom' in sys.modules)\n"
        "sys.modules['pydicom'] = None\n"
        f"print(len(walk([{str(path)!r}]).mentions))\n"
        f"try: read({str(path)!r})\nexcept Exception as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[:2] == ["False", "1"], done.stderr
    assert "pip install 'fundoscope[dicom]'" in done.stdout


def test_500_broken_files_are_read_or_refused(mutations):  # noqa: F811 - the fixture
    rng = np.random.default_rng(4)
    names = list(CASES)
    outcomes = []
    for k in range(500):
        whole, other = CASES[names[k % len(names)]][0], CASES[names[int(rng.integers(len(names)))]][0]
        change, function = list(mutations.CHANGES.items())[int(rng.integers(len(mutations.CHANGES)))]
        data = bytes(function(bytearray(whole), rng, other))
        outcomes.append(
            (mutations.outcome(mutations.Mutant(f"{k}", names[k % len(names)], change, data))[0], k, change)
        )
    assert [each for each in outcomes if each[0] not in ("read", "refused")] == []
    assert sum(each[0] == "refused" for each in outcomes) > 100


@pytest.mark.services
def test_500_broken_files_each_have_their_row(tmp_path, mutations):  # noqa: F811 - the fixture
    rng = np.random.default_rng(5)
    changes = list(mutations.CHANGES.values())
    for k, (whole, *_) in enumerate(list(CASES.values()) * 10):
        if k < 500:
            write(tmp_path / "in" / f"{k}.dcm", bytes(changes[k % len(changes)](bytearray(whole), rng, whole)))
    command = [
        sys.executable,
        "-m",
        "fundoscope",
        "rop",
        "screen",
        *map(str, sorted((tmp_path / "in").iterdir())),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert {row["file"].split("#")[0] for row in rows} == set(map(str, (tmp_path / "in").iterdir()))
    assert not [row for row in rows if "the program failed" in row["reason"]]


# --- files by another program's encoders


@pytest.mark.services
@pytest.mark.parametrize("photometric", ["RGB", "MONOCHROME2"])
@pytest.mark.parametrize("option", ["+e1", "+el", "+eb", "+ee", "+ep", "rle"])
def test_files_of_dcmtk_are_read(tmp_path, option, photometric):
    pixels, wanted = (RGB, RGB) if photometric == "RGB" else (GREY, AS_GREY)
    source = write(tmp_path / "in.dcm", made.encode(made.dataset("capture", photometric=photometric, PlanarConfiguration=None if photometric != "RGB" else 0), pixels))  # fmt: skip
    lossy = option in ("+eb", "+ee", "+ep")
    program = ["dcmcrle"] if option == "rle" else ["dcmcjpeg", option, *(["+q", "95"] if lossy else [])]
    done = subprocess.run([*program, str(source), str(tmp_path / "out.dcm")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = read(tmp_path / "out.dcm").pixels
    difference = np.abs(found.astype(int) - wanted)
    assert difference.mean() <= (2.5 if lossy else 0)
    assert difference.max() <= (90 if lossy else 0)


@pytest.mark.services
def test_a_deep_lossless_jpeg_of_dcmtk_is_read(tmp_path):
    found = made.dataset("1.2.840.10008.5.1.4.1.1.77.1.5.2", photometric="MONOCHROME2", bits=12, allocated=16)
    source = write(tmp_path / "in.dcm", made.encode(found, GREY.astype("<u2") << 4))
    subprocess.run(["dcmcjpeg", "+e1", str(source), str(tmp_path / "out.dcm")], check=True)
    assert np.abs(read(tmp_path / "out.dcm").pixels.astype(int) - AS_GREY).max() == 0


@pytest.mark.services
@pytest.mark.parametrize("photometric", ["RGB", "MONOCHROME2"])
def test_a_jpeg_ls_of_dcmtk_is_read_and_a_broken_one_ends_nothing(tmp_path, photometric, mutations):  # noqa: F811
    pixels, wanted = (RGB, RGB) if photometric == "RGB" else (GREY, AS_GREY)
    source = write(tmp_path / "in.dcm", made.encode(made.dataset("capture", photometric=photometric), pixels))
    subprocess.run(["dcmcjpls", str(source), str(tmp_path / "out.dcm")], check=True)
    assert np.array_equal(read(tmp_path / "out.dcm").pixels, wanted)
    whole, rng = (tmp_path / "out.dcm").read_bytes(), np.random.default_rng(6)
    start = whole.rindex(b"\xff\xd8\xff")
    for k in range(30):
        change = list(mutations.CHANGES.values())[k % len(mutations.CHANGES)]
        data = whole[:start] + bytes(change(bytearray(whole[start:]), rng, whole))
        assert mutations.outcome(mutations.Mutant(str(k), "ls", "", data))[0] in ("read", "refused")


@pytest.mark.services
def test_a_dicomdir_of_dcmtk_is_read(tmp_path):
    for n in (1, 2):
        one = made.dataset("capture", SOPInstanceUID=f"2.25.{n}", InstanceNumber=n)
        one.file_meta.MediaStorageSOPInstanceUID = f"2.25.{n}"
        write(tmp_path / "A" / f"IM{n}", made.encode(one, RGB))
    done = subprocess.run(["dcmmkdir", "+r", "-W", "-Nxc", "A"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [m.file.name for m in walk([str(tmp_path / "DICOMDIR")]).mentions] == ["IM1", "IM2"]
