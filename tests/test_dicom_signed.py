"""A reader's signed answer as DICOM objects: it takes the place of the program's, says so, and is the same object each time."""

from __future__ import annotations

import io
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dicom_files as made
import pytest

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")
pytest.importorskip("weasyprint")

from fundoscope import dicom
from fundoscope.dicom.objects import AnsweredStudy
from fundoscope.dicom.structured_reports import person_name
from fundoscope.findings import BundleIdentity, Status
from fundoscope.imaging.dicom_header import read_dicom_header

RGB = made.photograph()
TREE = Path(__file__).parent / "dicom_signed_tree.txt"
STAGE = dicom.CodedAnswer(dicom.Concept.ours("stage", "Stage"), dicom.Concept.ours("stage-2", "stage 2"))


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """The program's answer to two photographs, and a reading of them that was signed."""
    folder, found = tmp_path_factory.mktemp("study"), []
    for k, side in enumerate("RL"):
        path = folder / f"IM{k}"
        path.write_bytes(made.encode(made.dataset(SOPInstanceUID=f"2.25.{k + 1}", ImageLaterality=side), RGB))
        header = read_dicom_header(path, path.name)
        found.append(dicom.AnsweredPhotograph(path.name, path, header, None, Status.OK, "nothing seen"))
    tool = dicom.Answerer(
        "rop screen", BundleIdentity("tiny", "2026-11-25", "0123456789abcdef"), "fundoscope 9", "Screening"
    )
    report = pydicom.dcmread(io.BytesIO(dicom.write_structured_report(AnsweredStudy.read(tool, found))))
    superseded = dicom.SupersededDocument(
        "the unsigned answer of the program", *(str(report[name].value) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID"))
    )  # fmt: skip
    crossing = dicom.CrossingAnswer(1, 10.0, 20.0, evaluations=(STAGE,))
    reading = dicom.SignedReading(
        "Reading", "Ada Reader", "Eye Hospital 眼科医院", datetime(2026, 3, 1, 12, 30, tzinfo=UTC), "f" * 64,
        (dicom.ReadEye("right", "zone II, stage 2", (STAGE,), "see again 复查"), dicom.ReadEye("left", "no ROP seen")),
        ("the infant slept",), (superseded,),
    )  # fmt: skip
    room = dicom.Answerer(
        "reading room", BundleIdentity("signed reading", "2026-03-01", "f" * 16), "fundoscope", "Signed reading"
    )
    photographs = [replace(found[0], crossings=(crossing,)), found[1]]
    return report, AnsweredStudy.read(room, photographs, reading)


@pytest.fixture(scope="module")
def objects(studies):
    return {"SR": dicom.write_signed_reading(studies[1]), "PDF": dicom.write_document(studies[1], {0: RGB})}


def opened(data):
    return pydicom.dcmread(io.BytesIO(data))


def test_it_takes_the_place_of_the_programs_answer_and_says_so(studies, objects):
    tool, found = studies[0], opened(objects["SR"])
    (study,) = found.PredecessorDocumentsSequence
    series = study.ReferencedSeriesSequence[0]
    named = series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert (study.StudyInstanceUID, series.SeriesInstanceUID, named) == (tool.StudyInstanceUID, tool.SeriesInstanceUID, tool.SOPInstanceUID)  # fmt: skip
    texts = [str(element.value) for element in found.iterall() if element.keyword == "TextValue"]
    assert f"It supersedes the unsigned answer of the program ({tool.SOPInstanceUID})." in texts
    assert "Reading, read and signed by Ada Reader, Eye Hospital 眼科医院, on 2026-03-01 12:30 UTC." in texts
    assert (tool.VerificationFlag, found.VerificationFlag, found.PreliminaryFlag) == ("UNVERIFIED", "VERIFIED", "FINAL")
    verifier = found.VerifyingObserverSequence[0]
    assert (str(verifier.VerifyingObserverName), verifier.VerificationDateTime) == (
        "Ada Reader^",
        "20260301123000+0000",
    )
    assert "Algorithm" not in str(found) and "fundoscope 9" not in str(found)


def test_highdicom_reads_eyes_crossings_and_photographs(objects):
    from highdicom import sr

    report = sr.srread(io.BytesIO(objects["SR"]))
    groups = report.content.get_image_measurement_groups()
    assert [group.finding_sites[0].laterality.meaning for group in groups] == ["Right", "Left"]
    assert [[one.referenced_sop_instance_uid for one in group.source_images] for group in groups] == [
        ["2.25.1"],
        ["2.25.2"],
    ]
    (crossing,) = report.content.get_planar_roi_measurement_groups()
    assert crossing.roi.value.tolist() == [[20.5, 10.5]]
    assert [entry[2] for entry in report.get_evidence()] == ["2.25.1", "2.25.2"]


def test_the_same_reading_is_the_same_object_and_a_changed_one_another(studies, objects):
    study = studies[1]
    again = AnsweredStudy.read(study.answerer, study.photographs, study.reading)
    assert (
        dicom.write_signed_reading(again) == objects["SR"] and dicom.write_document(again, {0: RGB}) == objects["PDF"]
    )
    other = replace(again, reading=replace(study.reading, notes=("another note",)))
    assert opened(dicom.write_signed_reading(other)).SOPInstanceUID != opened(objects["SR"]).SOPInstanceUID


def test_its_document_is_attested_and_names_no_program(objects):
    found = opened(objects["PDF"])
    assert (found.VerificationFlag, found.SoftwareVersions) == ("VERIFIED", "fundoscope")
    assert found.EncapsulatedDocument.startswith(b"%PDF-")


@pytest.mark.parametrize(
    ("name", "value"),
    [("Ada  Reader", "Ada Reader^"), ("王小东", "=王小东^"), ("A^B=C\\D", "A B C D^"), ("x" * 80, "x" * 63 + "^")],
)
def test_a_name_becomes_a_name_of_dicom(name, value):
    assert person_name(name) == value


@pytest.mark.services
@pytest.mark.parametrize("kind", ["SR", "PDF"])
def test_dciodvfy_finds_no_error(objects, tmp_path, kind):
    path = tmp_path / f"{kind}.dcm"
    path.write_bytes(objects[kind])
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
    assert "Error" not in done.stderr + done.stdout
    assert {"SR": "Comprehensive3DSR", "PDF": "EncapsulatedPDF"}[kind] in done.stderr


@pytest.mark.services
def test_dsrdump_prints_the_tree_that_is_expected(objects, tmp_path):
    (tmp_path / "SR.dcm").write_bytes(objects["SR"])
    done = subprocess.run(["dsrdump", "+U8", "+Pl", str(tmp_path / "SR.dcm")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == TREE.read_text(encoding="utf-8")
