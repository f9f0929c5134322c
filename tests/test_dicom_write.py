"""Answers as DICOM objects: what they refer to, whose they are, that the same answer is the same object, and what writes them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace

import dicom_files as made
import numpy as np
import pytest

from fundoscope.errors import PhotographError
from fundoscope.findings import BundleIdentity, Status
from fundoscope.imaging.dicom_header import read_dicom_header

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")
pytest.importorskip("weasyprint")

from fundoscope import dicom
from fundoscope.dicom.objects import AnsweredStudy, digest_uid

RGB = made.photograph()
NAME = "Yamada^Tarou=山田^太郎=やまだ^たろう"
ASKED, SAID = dicom.Concept.ours("asked", "What was asked"), dicom.Concept.ours("said", "What was said")


@pytest.fixture(scope="module")
def answerer():
    identity = BundleIdentity("tiny", "2026-11-25", "0123456789abcdef")
    return dicom.Answerer(
        "rop screen", identity, "fundoscope 9", "Screening", {"allow_simulated": False}, {"For": "tests"}
    )


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Three answers: a photograph with two crossings, a wide-field one that was refused, and the second frame of a third."""
    folder = tmp_path_factory.mktemp("study")
    found = []
    for k, (kind, more) in enumerate([("op8", {}), ("wide", {}), ("many", {"NumberOfFrames": 2})]):
        attributes = {
            "PatientName": NAME,
            "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
            "SOPInstanceUID": f"2.25.{k + 1}",
        }
        one = made.dataset(kind, **attributes, ImageLaterality="RL"[k % 2], **more)
        path = folder / f"IM{k}"
        path.write_bytes(made.encode(one, np.stack([RGB, RGB]) if more else RGB))
        header = read_dicom_header(path, str(path))
        found.append(dicom.AnsweredPhotograph(str(path), path, header, 2 if more else None, Status.OK, "nothing seen"))
    crossings = tuple(
        dicom.CrossingAnswer(n, row, column, (dicom.Measure(ASKED, 0.25), dicom.Measure(SAID, 9.5, "{pixels}")), (dicom.CodedAnswer(ASKED, SAID),))
        for n, row, column in ((1, 10.0, 20.0), (2, 33.25, 44.75))
    )  # fmt: skip
    found[0] = replace(found[0], crossings=crossings, measures=(dicom.Measure(ASKED, 0.5),), attention="look here")
    found[1] = replace(
        found[1], status=Status.REJECTED, headline="refused", remark="too dark 太暗", attention="photograph again"
    )
    return found


@pytest.fixture(scope="module")
def study(answerer, photographs):
    return AnsweredStudy.read(answerer, photographs)


@pytest.fixture(scope="module")
def objects(study):
    """Kind -> file."""
    one = AnsweredStudy(study.answerer, study.photographs[:1], study.sources[:1])
    return {
        "SR": dicom.write_structured_report(study),
        "KO": dicom.write_key_objects(study),
        "PDF": dicom.write_document(study, {0: RGB}),
        "overlay": dicom.write_capture(one, RGB, 1),
    }


def opened(data):
    return pydicom.dcmread(io.BytesIO(data))


@pytest.mark.parametrize("kind", ["SR", "KO", "PDF", "overlay"])
def test_every_object_says_whose_it_is_and_by_whom(objects, kind):
    found = opened(objects[kind])
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert str(found.PatientName) == NAME
    assert NAME.encode() in objects[kind]
    assert (found.PatientID, found.IssuerOfPatientID, found.AccessionNumber) == ("4711", "HOSPITAL", "A-1")
    assert (found.PatientBirthDate, found.StudyInstanceUID, found.StudyDate) == ("20260110", "2.25.1002", "20260301")
    assert found.SeriesInstanceUID != "2.25.1003"
    assert "research use only" in found.SeriesDescription
    assert (found.Manufacturer, found.DeviceSerialNumber) == ("Fundoscope", "0123456789abcdef")
    assert (found.ContentDate, found.ContentTime) == ("20260301", "101700")
    assert found.preamble == bytes(128)


def test_the_same_answer_is_the_same_object(objects, answerer, photographs):
    again = AnsweredStudy.read(answerer, photographs)
    assert dicom.write_structured_report(again) == objects["SR"]
    assert dicom.write_key_objects(again) == objects["KO"]
    assert dicom.write_document(again, {0: RGB}) == objects["PDF"]
    assert len({opened(data).SOPInstanceUID for data in objects.values()}) == 4
    assert len({opened(data).SeriesInstanceUID for data in objects.values()}) == 4


@pytest.mark.parametrize("what", ["bundle", "options", "answer", "patient"])
def test_another_answer_is_another_object(objects, answerer, photographs, what):
    if what == "bundle":
        answerer = replace(answerer, bundle=BundleIdentity("tiny", "2026-11-25", "f" * 16))
    elif what == "options":
        answerer = replace(answerer, options={"allow_simulated": True})
    elif what == "answer":
        photographs = [replace(photographs[0], headline="something else"), *photographs[1:]]
    else:
        headers = [replace(photographs[0].header, patient_name="Other"), *(each.header for each in photographs[1:])]
        photographs = [replace(each, header=header) for each, header in zip(photographs, headers, strict=True)]
    other = opened(dicom.write_structured_report(AnsweredStudy.read(answerer, photographs)))
    assert other.SOPInstanceUID != opened(objects["SR"]).SOPInstanceUID


def test_a_study_of_two_patients_has_no_answer(answerer, photographs):
    other = replace(photographs[1], header=replace(photographs[1].header, patient_id="9999"))
    with pytest.raises(PhotographError, match="its study names 2 patients"):
        AnsweredStudy.read(answerer, [photographs[0], other])


def test_a_photograph_that_was_replaced_has_no_answer(answerer, photographs):
    other = replace(photographs[1], location=photographs[0].location)
    with pytest.raises(PhotographError, match="was replaced while it was worked on"):
        AnsweredStudy.read(answerer, [other])


def test_a_uid_is_a_valid_one_of_its_texts():
    uids = [digest_uid("a", str(k)) for k in range(200)]
    assert len(set(uids)) == 200
    assert all(pydicom.uid.UID(uid).is_valid and len(uid) <= 64 for uid in uids)
    assert digest_uid("ab", "c") != digest_uid("a", "bc")


# --- the structured report, read by highdicom


@pytest.fixture(scope="module")
def report(objects):
    from highdicom import sr

    return sr.srread(io.BytesIO(objects["SR"]))


def test_the_report_refers_to_its_photographs(report):
    assert report.get_evidence() == [
        ("2.25.1002", "2.25.1003", f"2.25.{k + 1}", made.CLASSES[kind])
        for k, kind in enumerate(("op8", "wide", "many"))
    ]
    groups = report.content.get_image_measurement_groups()
    assert len(groups) == 3
    sources = [group.source_images[0] for group in groups]
    assert [(each.referenced_sop_instance_uid, each.referenced_frame_numbers) for each in sources] == [
        ("2.25.1", None), ("2.25.2", None), ("2.25.3", [2]),
    ]  # fmt: skip
    assert [group.finding_sites[0].laterality.meaning for group in groups] == ["Right", "Left", "Right"]


def test_a_crossing_is_the_middle_of_its_pixel_column_first(report):
    groups = report.content.get_planar_roi_measurement_groups()
    assert [group.roi.value.tolist() for group in groups] == [[[20.5, 10.5]], [[45.25, 33.75]]]
    assert {item.value for group in groups for item in group.get_measurements(name=pydicom.sr.coding.Code("asked", "99FUNDOSCOPE", ""))} == {0.25}  # fmt: skip
    assert groups[0].get_measurements()[1].unit.value == "{pixels}"
    assert groups[0].roi.ContentSequence[0].referenced_sop_instance_uid == "2.25.1"


def test_the_report_names_algorithm_bundle_and_digest(objects):
    found = opened(objects["SR"])
    texts = [str(element.value) for element in found.iterall() if element.keyword == "TextValue"]
    assert "Fundoscope rop screen, bundle tiny" in texts
    assert "made 2026-11-25, digest 0123456789abcdef" in texts
    assert "allow_simulated: False" in texts
    assert any(text.startswith("Research use only. No medical device.") for text in texts)
    assert "refused; too dark 太暗" in texts
    assert found.VerificationFlag == "UNVERIFIED"


# --- the others


def test_the_selection_names_what_to_look_at(objects, study):
    found = opened(objects["KO"])
    images = [item for item in found.ContentSequence if item.ValueType == "IMAGE"]
    assert [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in images] == ["2.25.1", "2.25.2"]
    told = next(
        item.TextValue
        for item in found.ContentSequence
        if item.ValueType == "TEXT" and item.RelationshipType == "CONTAINS"
    )
    assert "1. look here" in told and "2. photograph again" in told
    nothing = AnsweredStudy(study.answerer, study.photographs[2:], study.sources[2:])
    assert dicom.write_key_objects(nothing) is None


def test_the_document_is_a_pdf_of_its_photographs(objects):
    found = opened(objects["PDF"])
    assert found.EncapsulatedDocument.startswith(b"%PDF-")
    assert len(found.EncapsulatedDocument) % 2 == 0
    assert found.EncapsulatedDocument[: found.EncapsulatedDocumentLength].rstrip().endswith(b"%%EOF")
    assert [item.ReferencedSOPInstanceUID for item in found.SourceInstanceSequence] == ["2.25.1", "2.25.2", "2.25.3"]
    assert found.MIMETypeOfEncapsulatedDocument == "application/pdf"


def test_the_document_fetches_nothing(study, tmp_path):
    from fundoscope.dicom.documents import draw_pdf

    secret = tmp_path / "secret.png"
    secret.write_bytes(b"x")
    hostile = replace(
        study.photographs[0], headline=f'<img src="file://{secret}"><style>@import "http://192.0.2.1/x"</style>'
    )
    pdf = draw_pdf(replace(study, photographs=(hostile, *study.photographs[1:])), {})
    assert pdf.startswith(b"%PDF-")
    assert b"/Image" not in pdf


def test_the_overlay_holds_the_picture_and_the_notice(objects):
    found = opened(objects["overlay"])
    pixels = found.pixel_array
    assert (found.ConversionType, found.PhotometricInterpretation, found.Laterality) == ("WSD", "RGB", "R")
    assert found.SourceImageSequence[0].ReferencedSOPInstanceUID == "2.25.1"
    assert pixels.shape == (3 * 120 + 28, 480, 3)
    assert np.abs(pixels[:360:3, ::3].astype(int) - RGB).mean() < 8
    assert pixels[360:].max() == 255


def test_burnt_in_text_of_a_source_is_passed_on(study):
    source = pydicom.dcmread(study.photographs[0].location, stop_before_pixels=True)
    for told, wanted in (("YES", "YES"), ("NO", "NO"), ("", "YES")):
        source.BurnedInAnnotation = told
        one = AnsweredStudy(study.answerer, study.photographs[:1], (source,))
        assert opened(dicom.write_capture(one, RGB, 1)).BurnedInAnnotation == wanted


# --- the commands


@pytest.fixture(scope="module")
def screened(tmp_path_factory):
    """A folder with two DICOM photographs and a PNG, worked through twice, each time into a folder of its own."""
    import cv2

    from fundoscope.runs import run, walk

    top = tmp_path_factory.mktemp("screened")
    (top / "in").mkdir()
    for k in range(2):
        one = made.dataset(SOPInstanceUID=f"2.25.{k + 1}", ImageLaterality="RL"[k], PatientName="Wang^XiaoDong=王^小东")
        (top / "in" / f"IM{k}").write_bytes(made.encode(one, RGB // (k + 1)))
    cv2.imwrite(str(top / "in" / "plain.png"), RGB[..., ::-1])
    return top, [run(made.BrightnessGrader(), walk([str(top / "in")]), top / out) for out in ("out", "again")]


def test_a_screening_writes_its_answers(screened):
    from highdicom import sr

    top, (summary, _) = screened
    names = {path.name for path in (top / "out" / "dicom").iterdir()}
    assert names == {"001_SR.dcm", "001_PDF.dcm", "001_KO.dcm", "001_overlay_0001.dcm", "001_overlay_0002.dcm"}
    assert any("no DICOM answer" in text and "plain.png" in text for text in summary.warnings)
    rows = json.loads((top / "out" / "results.json").read_text())["rows"]
    report = sr.srread(top / "out" / "dicom" / "001_SR.dcm")
    p = [float(group.get_measurements()[0].value) for group in report.content.get_image_measurement_groups()]
    assert p == [row["p_rop"] for row in rows[:2]]
    assert [entry[2] for entry in report.get_evidence()] == ["2.25.1", "2.25.2"]


def test_a_second_run_gives_the_same_bytes(screened):
    top, _ = screened
    first, second = (
        {path.name: path.read_bytes() for path in (top / out / "dicom").iterdir()} for out in ("out", "again")
    )
    assert first == second


def test_a_run_that_goes_on_writes_what_is_missing(screened):
    from fundoscope.errors import UsageError
    from fundoscope.runs import run, walk

    top, _ = screened
    found, again = [str(top / "in")], top / "again" / "dicom"
    before = {path.name: path.read_bytes() for path in again.iterdir()}
    (again / "001_SR.dcm").unlink()
    assert run(made.BrightnessGrader(), walk(found), top / "again").kept == 3
    assert {path.name: path.read_bytes() for path in again.iterdir()} == before
    with pytest.raises(UsageError, match="dicom: True there, None now"):
        run(made.BrightnessGrader(dicom=False), walk(found), top / "again")
    (again / "mine.txt").write_text("kept")
    run(made.BrightnessGrader(dicom=False), walk(found), top / "again", replace=True)
    assert [path.name for path in again.iterdir()] == ["mine.txt"]


@pytest.mark.services
@pytest.mark.parametrize("command", ["rop screen", "nicking grade"])
def test_the_shipped_bundles_answer_in_dicom(tmp_path, command):
    from fundoscope.simulate import adult, infant

    eye = (
        infant(3, camera="retcam", level="good").pixels if command == "rop screen" else adult(1, camera="drive").pixels
    )
    one = made.dataset(rows=eye.shape[0], columns=eye.shape[1], SOPInstanceUID="2.25.1")
    (tmp_path / "IM1").write_bytes(made.encode(one, eye))
    arguments = [*command.split(), str(tmp_path / "IM1"), "--out", str(tmp_path / "out"), "--dicom"]
    done = subprocess.run([sys.executable, "-m", "fundoscope", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "out" / "dicom").iterdir()}
    assert {"001_SR.dcm", "001_PDF.dcm", "001_overlay_0001.dcm"} <= names
    for name in sorted(names):
        told = subprocess.run(
            ["dciodvfy", str(tmp_path / "out" / "dicom" / name)], capture_output=True, text=True
        ).stderr
        assert [line for line in told.splitlines() if line.startswith("Error")] == []


def test_answers_do_not_come_back_as_photographs(screened, tmp_path):
    import shutil

    from fundoscope.runs import walk

    top, _ = screened
    assert len(walk([str(top)]).mentions) == 3
    shutil.copytree(top / "out" / "dicom", tmp_path / "export")
    shutil.copy(top / "in" / "IM0", tmp_path / "export" / "IM0")
    found = walk([str(tmp_path / "export")])
    assert [mention.file.name for mention in found.mentions] == ["IM0"]
    assert found.skipped.counts["DICOM object of another kind"] >= 4


def test_crossings_of_a_grading_are_pixels_of_the_file():
    from fundoscope.findings import NICKING_COLUMNS, Mention
    from fundoscope.nicking.grading.dicom_answers import answer_of

    header = read_dicom_header(made.encode(made.dataset(), RGB), "one")
    blank = dict.fromkeys(NICKING_COLUMNS)
    rows = [
        {**blank, "status": "ok", "reason": "", "crossing": 1, "row": 10.25, "col": 20.5, "confidence": 0.9, "p0": 0.1, "p1": 0.1, "p2": 0.7, "p3": 0.1, "grade": 2},
        {**blank, "status": "ok", "reason": "not sure", "crossing": 2, "row": 1.0, "col": 2.0, "confidence": 0.8},
    ]  # fmt: skip
    answer = answer_of(Mention("one", header=header), rows)
    assert [(one.row, one.column, one.remark) for one in answer.crossings] == [
        (10.25, 20.5, ""),
        (1.0, 2.0, "not sure"),
    ]
    assert answer.attention == "nicking of grade 2 or 3 at crossing 1"
    assert [len(one.evaluations) for one in answer.crossings] == [1, 0]
    refused = answer_of(Mention("one", header=header), [{**blank, "status": "rejected", "reason": "too dark"}])
    assert "have it examined" in refused.attention
    nothing = answer_of(Mention("one", header=header), [{**blank, "status": "ok", "reason": ""}])
    assert nothing.headline == "no crossing was found; this excludes nothing"
    assert nothing.attention == ""


@pytest.mark.parametrize("word", [("a" * 17, "SCT", "b"), ("a", "SCT", "b" * 65)])
def test_a_word_that_is_too_long_for_dicom_cannot_be_made(word):
    with pytest.raises(AssertionError, match="Concept"):
        dicom.Concept(*word)


def test_what_dicom_needs_is_said(tmp_path, monkeypatch):
    import importlib.util

    from fundoscope.cli.options import check_dicom
    from fundoscope.errors import MissingExtraError, UsageError

    with pytest.raises(UsageError, match="name it with --out"):
        check_dicom(True, None)
    check_dicom(False, None)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "highdicom" else find(name))
    with pytest.raises(MissingExtraError, match=r"pip install 'fundoscope\[dicom\]'"):
        check_dicom(True, tmp_path)


# --- judged by other programs


@pytest.mark.services
@pytest.mark.parametrize("kind", ["SR", "KO", "PDF", "overlay"])
def test_dciodvfy_finds_no_error(objects, tmp_path, kind):
    path = tmp_path / f"{kind}.dcm"
    path.write_bytes(objects[kind])
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
    assert "Error" not in done.stderr + done.stdout
    assert {"SR": "Comprehensive3DSR", "KO": "KeyObjectSelectionDocument", "PDF": "EncapsulatedPDF", "overlay": "SCImage"}[kind] in done.stderr  # fmt: skip


@pytest.mark.services
def test_dsrdump_prints_the_tree(objects, tmp_path):
    (tmp_path / "SR.dcm").write_bytes(objects["SR"])
    done = subprocess.run(["dsrdump", "+U8", "+Pl", str(tmp_path / "SR.dcm")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert NAME in done.stdout
    assert done.stdout.count('<contains CONTAINER:(,,"Measurement Group")') == 5
    assert "(POINT,20.5/10.5)" in done.stdout
    assert "(POINT,45.25/33.75)" in done.stdout
    assert 'TEXT:(,,"Algorithm Name")="Fundoscope rop screen, bundle tiny"' in done.stdout
    assert '"refused; too dark 太暗"' in done.stdout
