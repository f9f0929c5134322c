"""The photographs of a study that a reader should look at, as a Key Object Selection (PS3.3, A.35.4; PS3.16, TID 2010)."""

from __future__ import annotations

from dataclasses import replace

from pydicom.dataset import Dataset

from fundoscope.dicom.answers import NOTICE, AnsweredPhotograph, Concept
from fundoscope.dicom.objects import (
    KEY_OBJECTS,
    AnsweredStudy,
    code_item,
    digest_uid,
    evidence_sequence,
    image_reference,
    seal,
    start_object,
)

_OF_INTEREST = Concept("113000", "DCM", "Of Interest")
_DESCRIPTION = Concept("113012", "DCM", "Key Object Description")
_OBSERVER_TYPE, _DEVICE = Concept("121005", "DCM", "Observer Type"), Concept("121007", "DCM", "Device")
_DEVICE_UID, _DEVICE_NAME = (
    Concept("121012", "DCM", "Device Observer UID"),
    Concept("121013", "DCM", "Device Observer Name"),
)


def write_key_objects(study: AnsweredStudy) -> bytes | None:
    """The file of the selection; None where there is no photograph to look at."""
    pairs = [
        (photograph, source)
        for photograph, source in zip(study.photographs, study.sources, strict=True)
        if photograph.attention
    ]
    if not pairs:
        return None
    chosen = replace(study, photographs=tuple(p for p, _ in pairs), sources=tuple(s for _, s in pairs))
    answerer = study.answerer
    made = start_object(KEY_OBJECTS, chosen)
    made.ReferencedPerformedProcedureStepSequence = []
    made.CurrentRequestedProcedureEvidenceSequence = evidence_sequence(chosen)
    made.ValueType, made.ContinuityOfContent = "CONTAINER", "SEPARATE"
    made.ConceptNameCodeSequence = [code_item(_OF_INTEREST)]
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "2010"
    made.ContentTemplateSequence = [template]
    told = "\n".join(
        [NOTICE, *(f"{number}. {photograph.attention}" for number, (photograph, _) in enumerate(pairs, 1))]
    )
    made.ContentSequence = [
        _item("HAS OBS CONTEXT", "CODE", _OBSERVER_TYPE, ConceptCodeSequence=[code_item(_DEVICE)]),
        _item(
            "HAS OBS CONTEXT", "UIDREF", _DEVICE_UID, UID=digest_uid("device", answerer.command, answerer.bundle.digest)
        ),
        _item("HAS OBS CONTEXT", "TEXT", _DEVICE_NAME, TextValue=f"{answerer.program}, bundle {answerer.bundle.name}"),
        _item("CONTAINS", "TEXT", _DESCRIPTION, TextValue=told),
        *_images(chosen.photographs),
    ]
    return seal(made, KEY_OBJECTS, chosen)


def _images(photographs: tuple[AnsweredPhotograph, ...]) -> list[Dataset]:
    items = []
    for photograph in photographs:
        item = Dataset()
        item.RelationshipType, item.ValueType = "CONTAINS", "IMAGE"
        item.ReferencedSOPSequence = [image_reference(photograph)]
        items.append(item)
    return items


def _item(relationship: str, kind: str, name: Concept, **values: object) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = relationship, kind
    item.ConceptNameCodeSequence = [code_item(name)]
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item
