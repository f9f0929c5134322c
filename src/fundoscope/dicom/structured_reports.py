"""The answers to a study as a Comprehensive 3D SR: TID 1500, a TID 1501 group an image, a TID 1410 group a crossing.

So is a reader's signed reading of it, with a TID 1501 group an eye.

The template's tree is made by highdicom. A point of ours is the centre of pixel (row, column), from 0; DICOM counts from
the upper left corner of the first pixel, column first (PS3.3, C.18.6.1.1): so half a pixel is added.
"""

from __future__ import annotations

from datetime import UTC

import numpy as np
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from fundoscope.dicom.answers import (
    NOTICE,
    RETINA,
    SIDES,
    AnsweredPhotograph,
    Answerer,
    CodedAnswer,
    Concept,
    CrossingAnswer,
    Measure,
    describe_version,
)
from fundoscope.dicom.objects import (
    READING_ROOM,
    STRUCTURED_REPORT,
    AnsweredStudy,
    digest_uid,
    evidence_sequence,
    predecessor_sequence,
    seal,
    start_object,
)
from fundoscope.imaging.dicom_header import MANUFACTURER

_COMMENT = Code("121106", "DCM", "Comment")
_PROCEDURE = Concept.ours("photos-judged", "Photographs of the retina judged by a program")
_READING = Concept.ours("photos-read", "Photographs of the retina read by a person")
_CROSSING = Concept.ours("crossing", "Crossing of an artery and a vein of the retina")
_LONGEST_TEXT = 1000


def write_structured_report(study: AnsweredStudy) -> bytes:
    """The file of the report."""
    algorithm = _algorithm(study.answerer)
    groups: list[sr.MeasurementsAndQualitativeEvaluations | sr.PlanarROIMeasurementsAndQualitativeEvaluations] = []
    for photograph in study.photographs:
        groups.append(_photograph_group(photograph, study.answerer, algorithm))
        groups += [_crossing_group(photograph, one, study.answerer, algorithm) for one in photograph.crossings]
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=digest_uid("device", study.answerer.command, study.answerer.bundle.digest), name=study.answerer.program,
        manufacturer_name=MANUFACTURER, model_name=f"bundle {study.answerer.bundle.name}", serial_number=study.answerer.bundle.digest,
    )  # fmt: skip
    observer = sr.ObserverContext(
        observer_type=sr.CodedConcept("121007", "DCM", "Device"), observer_identifying_attributes=device
    )
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer), procedure_reported=_coded(_PROCEDURE),
        imaging_measurements=groups,
    )  # fmt: skip
    root = report[0]
    root.ContentSequence.append(_comment(NOTICE))
    made = start_object(STRUCTURED_REPORT, study)
    for element in root:
        made[element.tag] = element
    made.CompletionFlag, made.VerificationFlag, made.PreliminaryFlag = "COMPLETE", "UNVERIFIED", "PRELIMINARY"
    made.PerformedProcedureCodeSequence = []
    made.ReferencedPerformedProcedureStepSequence = []
    made.CurrentRequestedProcedureEvidenceSequence = evidence_sequence(study)
    return seal(made, STRUCTURED_REPORT, study)


def write_signed_reading(study: AnsweredStudy) -> bytes:
    """The file of the report of a signed reading: a TID 1501 group an eye, a TID 1410 group a crossing that the reader graded.

    It is VERIFIED and FINAL, names the reader as observer and as who verified it, and its predecessors are what it supersedes.
    """
    reading = study.reading
    assert reading is not None
    groups: list[sr.MeasurementsAndQualitativeEvaluations | sr.PlanarROIMeasurementsAndQualitativeEvaluations] = []
    for eye in reading.eyes:
        shown = [photograph for photograph in study.photographs if photograph.header.eye == eye.eye]
        group = sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(
                uid=digest_uid("tracking", "reading", eye.eye, reading.digest), identifier=f"reading of the {eye.eye} eye"
            ),
            finding_sites=[sr.FindingSite(_coded(RETINA), laterality=_coded(SIDES[eye.eye]))],
            qualitative_evaluations=_evaluations(eye.evaluations),
            source_images=[
                sr.SourceImageForMeasurementGroup(one.header.sop_class, one.header.sop_instance, _frames(one)) for one in shown
            ],
        )  # fmt: skip
        group[0].ContentSequence.append(_comment("; ".join(filter(None, (eye.headline, eye.remark)))))
        groups.append(group)
        groups += [_crossing_group(one, crossing, study.answerer, None) for one in shown for crossing in one.crossings]
    name = person_name(reading.reader)
    person = sr.PersonObserverIdentifyingAttributes(name=name, organization_name=reading.organisation)
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=digest_uid("device", READING_ROOM), name=study.answerer.program, manufacturer_name=MANUFACTURER,
        model_name=READING_ROOM,
    )  # fmt: skip
    context = sr.ObservationContext(
        observer_person_context=sr.ObserverContext(sr.CodedConcept("121006", "DCM", "Person"), person),
        observer_device_context=sr.ObserverContext(sr.CodedConcept("121007", "DCM", "Device"), device),
    )
    root = sr.MeasurementReport(
        observation_context=context, procedure_reported=_coded(_READING), imaging_measurements=groups
    )[0]
    for text in (NOTICE, *reading.statements, *reading.notes):
        root.ContentSequence.append(_comment(text))
    made = start_object(STRUCTURED_REPORT, study)
    for element in root:
        made[element.tag] = element
    made.CompletionFlag, made.VerificationFlag, made.PreliminaryFlag = "COMPLETE", "VERIFIED", "FINAL"
    verifier = Dataset()
    verifier.VerifyingOrganization, verifier.VerifyingObserverName = reading.organisation[:64], name
    verifier.VerificationDateTime = f"{reading.signed_at.astimezone(UTC):%Y%m%d%H%M%S}+0000"
    verifier.VerifyingObserverIdentificationCodeSequence = []
    made.VerifyingObserverSequence = [verifier]
    if reading.supersedes:
        made.PredecessorDocumentsSequence = predecessor_sequence(reading.supersedes)
    made.PerformedProcedureCodeSequence = []
    made.ReferencedPerformedProcedureStepSequence = []
    made.CurrentRequestedProcedureEvidenceSequence = evidence_sequence(study)
    return seal(made, STRUCTURED_REPORT, study)


def person_name(name: str) -> str:
    """A name as people write it, as a value of PN of one component (PS3.5, 6.2.1); ideographs stand in their own group."""
    plain = " ".join("".join(" " if letter in "^=\\" else letter for letter in name).split())[:63]
    return f"={plain}^" if any(ord(letter) > 0x2E80 for letter in plain) else f"{plain}^"


def _algorithm(answerer: Answerer) -> sr.AlgorithmIdentification:
    """TID 4019: the command and its bundle, the bundle's day and digest, the program and its options."""
    bundle = answerer.bundle
    options = [f"{name}: {value}" for name, value in sorted(answerer.options.items())]
    return sr.AlgorithmIdentification(
        name=f"{MANUFACTURER} {answerer.command}, bundle {bundle.name}", version=describe_version(bundle),
        parameters=[f"program: {answerer.program}", f"bundle digest (SHA-256): {bundle.digest}", *options],
        manufacturer=MANUFACTURER,
    )  # fmt: skip


def _photograph_group(
    photograph: AnsweredPhotograph, answerer: Answerer, algorithm: sr.AlgorithmIdentification
) -> sr.MeasurementsAndQualitativeEvaluations:
    header = photograph.header
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(f"photograph {_label(photograph)}", photograph, answerer),
        algorithm_id=algorithm, finding_sites=_site(photograph), measurements=_measurements(photograph.measures),
        qualitative_evaluations=_evaluations(photograph.evaluations),
        source_images=[sr.SourceImageForMeasurementGroup(header.sop_class, header.sop_instance, _frames(photograph))],
    )  # fmt: skip
    remark = "; ".join(filter(None, (photograph.headline, photograph.remark)))
    group[0].ContentSequence.append(_comment(remark))
    return group


def _crossing_group(
    photograph: AnsweredPhotograph,
    crossing: CrossingAnswer,
    answerer: Answerer,
    algorithm: sr.AlgorithmIdentification | None,
) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    header = photograph.header
    point = np.array([[crossing.column + 0.5, crossing.row + 0.5]])
    region = sr.ImageRegion(
        "POINT", point, sr.SourceImageForRegion(header.sop_class, header.sop_instance, _frames(photograph))
    )
    group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(f"crossing {crossing.number} of {_label(photograph)}", photograph, answerer),
        referenced_region=region, finding_type=_coded(_CROSSING), algorithm_id=algorithm, finding_sites=_site(photograph),
        measurements=_measurements(crossing.measures), qualitative_evaluations=_evaluations(crossing.evaluations),
    )  # fmt: skip
    if crossing.remark:
        group[0].ContentSequence.append(_comment(crossing.remark))
    return group


def _label(photograph: AnsweredPhotograph) -> str:
    number = f" frame {photograph.frame}" if photograph.frame else ""
    return f"{photograph.header.eye or 'unknown'} eye{number}"


def _tracking(identifier: str, photograph: AnsweredPhotograph, answerer: Answerer) -> sr.TrackingIdentifier:
    parts = (
        identifier,
        photograph.header.sop_instance,
        str(photograph.frame),
        answerer.command,
        answerer.bundle.digest,
    )
    return sr.TrackingIdentifier(uid=digest_uid("tracking", *parts), identifier=identifier)


def _frames(photograph: AnsweredPhotograph) -> list[int] | None:
    return None if photograph.frame is None else [photograph.frame]


def _coded(concept: Concept) -> Code:
    return Code(concept.code, concept.scheme, concept.meaning)


def _site(photograph: AnsweredPhotograph) -> list[sr.FindingSite]:
    side = SIDES.get(photograph.header.eye)
    return [sr.FindingSite(_coded(RETINA), laterality=None if side is None else _coded(side))]


def _measurements(measures: tuple[Measure, ...]) -> list[sr.Measurement] | None:
    units = {"1": Code("1", "UCUM", "no units"), "{pixels}": Code("{pixels}", "UCUM", "Pixels")}
    return [sr.Measurement(_coded(each.what), each.value, units[each.unit]) for each in measures] or None


def _evaluations(evaluations: tuple[CodedAnswer, ...]) -> list[sr.QualitativeEvaluation] | None:
    return [sr.QualitativeEvaluation(_coded(each.question), _coded(each.answer)) for each in evaluations] or None


def _comment(text: str) -> Dataset:
    return sr.TextContentItem(_COMMENT, text[:_LONGEST_TEXT], sr.RelationshipTypeValues.CONTAINS)
