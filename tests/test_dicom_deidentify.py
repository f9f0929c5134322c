"""De-identified photographs: nothing of the original's header is left but what is listed, text is black, the same person is one."""

from __future__ import annotations

import csv
import io
import os
import subprocess

import cv2
import dicom_files as made
import numpy as np
import pytest

from fundoscope.errors import UsageError
from fundoscope.runs import walk

pydicom = pytest.importorskip("pydicom")

from fundoscope.dicom.burnt_in import black_out, find_burnt_in, find_lines
from fundoscope.dicom.deidentified_folder import deidentify_files, read_key
from fundoscope.dicom.deidentify import CHOICES, Deidentification, HeldBack, deidentify
from fundoscope.imaging import read

RGB = made.photograph(240, 320)
KEY = b"k" * 32
PLAIN = Deidentification(KEY)


def write(path, pixels=RGB, **more):
    found = made.dataset(more.pop("kind", "op8"), rows=pixels.shape[0], columns=pixels.shape[1], **more)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.encode(found, pixels))
    return path


def opened(done):
    return pydicom.dcmread(io.BytesIO(done.data))


def test_nothing_of_a_full_header_is_left(tmp_path):
    """Every attribute that DICOM knows and that can hold text is filled, in and outside of sequences, and private ones."""
    from pydicom.datadict import DicomDictionary
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

    found = made.dataset(rows=240, columns=320)
    leak = {"PN": "Leak^Leak", "UI": "1.2.3.99999.77777", "DA": "19770707", "DT": "19770707070707", "TM": "070707.777", "AS": "077Y", "IS": "7777777", "DS": "7777.777", "AE": "LEAK", "CS": "LEAK"}  # fmt: skip
    kept = {"SOPClassUID", "PhotometricInterpretation", "Modality", "ImageType", "ImageLaterality", "Laterality", "Manufacturer",
            "ManufacturerModelName", "SpecificCharacterSet", "BurnedInAnnotation", "TransferSyntaxUID", "NumberOfFrames",
            "ConversionType", "PixelSpacing", "PupilDilated", "SeriesNumber", "InstanceNumber", "LossyImageCompression",
            "DetectorType", "LossyImageCompressionRatio", "LossyImageCompressionMethod"}  # fmt: skip
    inner = Dataset()
    for tag, (vr, *_, retired, keyword) in DicomDictionary.items():
        vr = vr.split(" or ")[0]
        if (
            tag >> 16 <= 2
            or tag >> 16 == 0x7FE0
            or keyword in kept
            or not keyword
            or retired
            or keyword.startswith("Palette")
        ):
            continue
        if vr in leak or vr in ("LO", "SH", "LT", "ST", "UT", "UC", "UR"):
            element = DataElement(tag, vr, leak.get(vr, "Leak of a name"), validation_mode=0)
            found[tag] = element
            inner[tag] = element
    sequences = [
        tag for tag, (vr, *_, retired, keyword) in DicomDictionary.items() if vr == "SQ" and keyword and not retired
    ]
    for tag in sequences[:: len(sequences) // 12]:
        found[tag] = DataElement(tag, "SQ", [inner])
    found.ViewCodeSequence, found.AnatomicRegionSequence = [inner], [inner]
    found.add_new(0x00191001, "LO", "Leak of a name")
    path = tmp_path / "full"
    path.write_bytes(made.encode(found, RGB))
    assert path.read_bytes().count(b"Leak") > 10_000
    data = deidentify(path, PLAIN).data
    texts = [b"Leak", b"LEAK", b"1.2.3.99999", b"19770707", b"070707", b"077Y", b"4711", b"HOSPITAL", b"7777"]
    assert [text for text in texts if text in data] == []
    tags = {element.keyword for element in pydicom.dcmread(io.BytesIO(data))}
    assert len(tags) < 60


def test_what_is_left_is_a_photograph_with_a_pseudonym(tmp_path):
    path = write(tmp_path / "one", ViewCodeSequence=None, OperatorsName="Doe")
    found = opened(deidentify(path, PLAIN))
    assert (found.PatientIdentityRemoved, found.BurnedInAnnotation) == ("YES", "NO")
    assert (found.ImageLaterality, found.ManufacturerModelName) == ("R", "Cam 3")
    assert found.PatientID == str(found.PatientName) == PLAIN.pseudonym(read(path).header)
    assert [item.CodeValue for item in found.DeidentificationMethodCodeSequence] == ["113100", "113101"]
    assert found.LongitudinalTemporalInformationModified == "REMOVED"
    assert (found.StudyDate, found.PatientBirthDate, found.AccessionNumber, found.PatientSex) == ("", "", "", "")
    assert "InstitutionName" not in found and "OperatorsName" not in found and "DeviceSerialNumber" not in found
    assert not {found.StudyInstanceUID, found.SeriesInstanceUID, found.SOPInstanceUID} & {
        "2.25.1001",
        "2.25.1002",
        "2.25.1003",
    }
    header = read(deidentify(path, PLAIN).data).header
    assert (header.eye, header.patient_id, header.exam_date, header.doubts) == ("right", found.PatientID, "", ())


def test_the_same_person_has_one_pseudonym_and_another_key_another(tmp_path):
    one, two = (
        read(write(tmp_path / name, SOPInstanceUID=uid)).header for name, uid in (("a", "2.25.7"), ("b", "2.25.8"))
    )
    other = read(write(tmp_path / "c", IssuerOfPatientID="ELSEWHERE")).header
    assert PLAIN.pseudonym(one) == PLAIN.pseudonym(two)
    assert PLAIN.pseudonym(one) != PLAIN.pseudonym(other)
    assert PLAIN.pseudonym(one) != Deidentification(b"x" * 32).pseudonym(one)
    assert PLAIN.uid("2.25.1") != Deidentification(b"x" * 32).uid("2.25.1")


def test_what_was_chosen_stays(tmp_path):
    path = write(tmp_path / "one")
    kept = opened(
        deidentify(path, Deidentification.choose(KEY, ["dates", "characteristics", "device", "institution", "uids"]))
    )
    assert (kept.StudyDate, kept.AcquisitionDateTime, kept.PatientAge, kept.PatientSex) == (
        "20260301",
        "20260301101700",
        "050D",
        "F",
    )
    assert (kept.DeviceSerialNumber, kept.InstitutionName, kept.SOPInstanceUID) == ("77", "Hospital", "2.25.1001")
    assert kept.LongitudinalTemporalInformationModified == "UNMODIFIED"
    codes = {item.CodeValue for item in kept.DeidentificationMethodCodeSequence}
    assert codes == {"113100", "113101", "113106", "113108", "113109", "113110", "113112"}
    assert kept.PatientBirthDate == ""


def test_shifted_dates_keep_their_distance(tmp_path):
    how = Deidentification.choose(KEY, ["shifted-dates"])
    days = ["20260301", "20260315"]
    found = [
        opened(deidentify(write(tmp_path / day, StudyDate=day, AcquisitionDateTime=day + "120000"), how))
        for day in days
    ]
    from datetime import date

    read_days = [date(int(one.StudyDate[:4]), int(one.StudyDate[4:6]), int(one.StudyDate[6:])) for one in found]
    assert (read_days[1] - read_days[0]).days == 14
    assert 1 <= (date(2026, 3, 1) - read_days[0]).days <= 3650
    assert found[0].AcquisitionDateTime.endswith("120000")
    assert found[0].LongitudinalTemporalInformationModified == "MODIFIED"


@pytest.mark.parametrize(("born", "age"), [("19300101", "090Y"), ("19600101", "066Y"), ("20260401", None), ("", None)])
def test_an_age_is_the_exams_and_the_oldest_are_one(tmp_path, born, age):
    path = write(tmp_path / "one", PatientBirthDate=born)
    found = opened(deidentify(path, Deidentification.choose(KEY, ["characteristics"])))
    assert found.get("PatientAge") == age


def test_unknown_and_contradicting_choices_are_refused():
    with pytest.raises(UsageError, match="did you mean 'dates'"):
        Deidentification.choose(KEY, ["date"])
    with pytest.raises(UsageError, match="one of dates and shifted-dates"):
        Deidentification.choose(KEY, ["dates", "shifted-dates"])
    assert all(len(each.meaning) <= 64 for each in CHOICES.values())


def test_pixels_are_those_of_the_source_and_comments_in_them_are_gone(tmp_path):
    frame = made.jpeg(RGB, 0)
    frame = frame[:2] + b"\xff\xfe\x00\x10Leak of a name" + frame[2:]
    found = made.dataset(syntax="1.2.840.10008.1.2.4.50", photometric="YBR_FULL", rows=240, columns=320)
    path = tmp_path / "one"
    path.write_bytes(made.encode(found, frames=[frame]))
    done = deidentify(path, PLAIN)
    assert b"Leak" not in done.data
    before, after = read(path).pixels, read(done.data).pixels
    assert np.array_equal(after[60:180, 100:220], before[60:180, 100:220])
    assert np.abs(after.astype(int) - before).max() < 32  # the noise of JPEG outside the field is black now


def test_each_frame_and_grey_pictures_keep_their_pixels(tmp_path):
    frames = np.stack([RGB, RGB // 2])
    path = tmp_path / "two"
    path.write_bytes(made.encode(made.dataset("many", rows=240, columns=320, NumberOfFrames=2), frames))
    assert np.array_equal(opened(deidentify(path, PLAIN)).pixel_array, frames)
    grey = tmp_path / "grey"
    grey.write_bytes(made.encode(made.dataset(photometric="MONOCHROME1", rows=240, columns=320), 255 - made.grey(RGB)))
    found = opened(deidentify(grey, PLAIN))
    assert found.PhotometricInterpretation == "MONOCHROME2"
    assert np.array_equal(found.pixel_array, made.grey(RGB))


# --- text in the picture


def with_text(pixels, text, at, colour=(255, 255, 255), size=0.6, thick=1, font=cv2.FONT_HERSHEY_SIMPLEX):
    shown = pixels.copy()
    cv2.putText(shown, text, at, font, size, colour, thick, cv2.LINE_AA)
    return shown


@pytest.fixture(scope="module")
def eye():
    from fundoscope.simulate import infant

    return infant(0, camera="retcam", level="good").pixels


def test_an_eye_without_text_keeps_its_pixels(eye):
    found = find_burnt_in(eye)
    assert found.boxes == ()
    assert not found.outside
    cleaned = black_out(eye, found)
    assert np.array_equal(cleaned[eye.max(2) > 60], eye[eye.max(2) > 60])


@pytest.mark.parametrize("colour", [(255, 255, 255), (255, 255, 0), (0, 255, 0), (0, 0, 0)])
@pytest.mark.parametrize(
    ("text", "size", "font"), [("WANG XIAODONG 1998-03-04", 0.6, 0), ("ID: 883-221", 1.0, 2), ("4711 OD", 0.8, 3)]
)
def test_text_over_the_retina_is_found_and_black(eye, text, size, font, colour):
    shown = with_text(eye, text, (190, 260), colour, size, font=font)
    cleaned = black_out(shown, find_burnt_in(shown))
    drawn = (shown != eye).any(2)
    assert (cleaned[drawn].max(1) == 0).mean() > 0.95
    assert (cleaned != shown).any(2).mean() < 0.2


def test_whatever_is_written_outside_the_field_is_black(eye):
    shown = with_text(eye, "x", (4, 20))
    found = find_burnt_in(shown)
    assert found.outside
    assert black_out(shown, found)[:30, :30].max() == 0


def test_vessels_are_no_text():
    from fundoscope.simulate import adult  # whose vessels are the darkest lines

    assert find_lines(adult(1, camera="drive").pixels) == []


@pytest.mark.parametrize(
    ("told", "text", "hold", "said"),
    [
        ("YES", "", False, "none was found"),
        ("YES", "NAME 12", False, None),
        ("NO", "NAME 12", False, None),
        ("NO", "NAME 12", True, "--hold"),
        (None, "", False, None),
    ],
)
def test_what_may_show_who_it_is_is_held_back(tmp_path, eye, told, text, hold, said):
    shown = with_text(eye, text, (200, 240)) if text else eye
    path = write(tmp_path / "one", shown, BurnedInAnnotation=told)
    how = Deidentification(KEY, hold=hold)
    if said is None:
        assert deidentify(path, how).blacked == bool(text)
    else:
        with pytest.raises(HeldBack) as held:
            deidentify(path, how)
        assert said in held.value.reason


def test_a_picture_without_a_field_is_held_back_unless_its_header_knows(tmp_path):
    rng = np.random.default_rng(0)
    bare = np.clip(np.array([180, 90, 50]) + rng.normal(0, 4, (240, 320, 1)), 0, 255).astype(np.uint8)
    with pytest.raises(HeldBack, match=""):
        deidentify(write(tmp_path / "one", bare, BurnedInAnnotation=None), PLAIN)
    assert deidentify(write(tmp_path / "two", bare, BurnedInAnnotation="NO"), PLAIN).blacked == 0


# --- the folder and the command


class Silent:
    def say(self, text):
        raise AssertionError(text)

    def follow(self, items, total, what, done=0):
        return iter(items)


def test_the_folder_names_no_original_and_the_table_does(tmp_path):
    first = write(tmp_path / "in" / "Wang Xiaodong.dcm")
    second = write(tmp_path / "in" / "IM2", BurnedInAnnotation="YES")
    third = tmp_path / "in" / "broken.dcm"
    third.write_bytes(first.read_bytes()[:300])
    table = tmp_path / "secret.csv"
    done = deidentify_files([first, second, third], tmp_path / "out", PLAIN, table, Silent())
    assert [one.status for one in done] == ["written", "held back", "failed"]
    every = b"".join(path.read_bytes() for path in sorted((tmp_path / "out").rglob("*")) if path.is_file())
    assert not [word for word in (b"Wang", b"4711", b"IM2", b"broken.dcm") if word in every]
    walked = walk([str(tmp_path / "out")])
    assert [mention.path for mention in walked.mentions] == [str(tmp_path / "out" / "photographs" / done[0].place)]
    assert list(walked.skipped.counts) == ["folder of de-identified photographs"]
    rows = list(csv.DictReader((tmp_path / "out" / "deidentified.csv").open()))
    assert (tmp_path / "out" / rows[0]["file"]).is_file()
    assert [row["file"] for row in rows[1:]] == ["", ""]
    back = list(csv.DictReader(table.open()))
    assert [row["original"] for row in back] == [str(path) for path in (first, second, third)]
    assert back[0]["patient_id"] == "4711"
    with pytest.raises(UsageError, match="is to be given away"):
        deidentify_files([first], tmp_path / "out", PLAIN, tmp_path / "out" / "table.csv", Silent())


def test_an_original_never_lies_in_the_folder_that_is_given_away(tmp_path):
    path = write(tmp_path / "in" / "IM1")
    with pytest.raises(UsageError, match="IM1: lies in the folder that is to be given away"):
        deidentify_files([path], tmp_path / "in", PLAIN, None, Silent())
    assert [each.name for each in (tmp_path / "in").iterdir()] == ["IM1"]


def test_what_is_no_dicom_file_is_said(tmp_path):
    cv2.imwrite(str(tmp_path / "eye.png"), RGB)
    (one,) = deidentify_files([tmp_path / "eye.png"], tmp_path / "out", PLAIN, None, Silent())
    assert (one.status, one.reason) == ("failed", "is no DICOM file. Name DICOM files.")


def test_a_key_is_made_once_and_kept(tmp_path):
    key = read_key(tmp_path / "key")
    assert (len(key), read_key(tmp_path / "key")) == (32, key)
    assert read_key(None) != read_key(None)
    if os.name == "posix":
        assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    (tmp_path / "short").write_bytes(b"short")
    with pytest.raises(UsageError, match="fewer than 32 bytes"):
        read_key(tmp_path / "short")


def test_the_command_says_what_was_held_back(tmp_path, capsys):
    import typer

    from fundoscope.cli.dicom import deidentify as command

    write(tmp_path / "in" / "IM1")
    held = write(tmp_path / "in" / "IM2", BurnedInAnnotation="YES")
    with pytest.raises(typer.Exit) as left:
        command([str(tmp_path / "in")], tmp_path / "out")
    said = capsys.readouterr()
    assert left.value.exit_code == 1
    assert said.out.startswith(f"{held}: held back: its header says")
    assert "written: 1  held back: 1  failed: 0" in said.err
    with pytest.raises(UsageError, match="did you mean 'dates'"):
        command([str(tmp_path / "in")], tmp_path / "other", keep="dat")
    assert not (tmp_path / "other").exists()


@pytest.mark.services
def test_dciodvfy_finds_no_error_in_a_copy(tmp_path):
    path = tmp_path / "copy.dcm"
    path.write_bytes(deidentify(write(tmp_path / "one", kind="capture", ConversionType="WSD"), PLAIN).data)
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
    assert "SCImage" in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []
