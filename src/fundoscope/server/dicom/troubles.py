"""What is said where another system does not do its part. It is kept in English with what it is about, and translated where it is shown."""

from __future__ import annotations

from dataclasses import dataclass

from fundoscope.languages import kept_text

TOO_LARGE = kept_text("its answer is larger than {most} MB. Ask its administrator.")
TOO_SLOW = kept_text("its answer took longer than {seconds} seconds. Ask its administrator.")
NOT_BELIEVED = kept_text("its certificate is not believed, or TLS failed. Name the authority that has signed it.")
NO_ANSWER = kept_text("it gave no answer in time. Check the address, and that it runs.")
NOBODY = kept_text("nothing answers there. Check the address, and that it runs.")
NO_FILE = kept_text("a file for TLS cannot be used ({reason}). Name PEM files that are there.")
NOT_READ = kept_text("its answer cannot be read ({reason}). Is it the address of DICOMweb?")
#: By the status of an answer; 0: any other.
STATUSES = {
    401: kept_text("it wants another user or password. Enter them again."),
    403: kept_text("the user may not do this there. Ask its administrator."),
    404: kept_text("there is nothing at this address. Is it the address of DICOMweb?"),
    0: kept_text("it answered with status {status}. Look into its log."),
}
#: Why an instance was not stored (PS3.18, table 10.5.3-1; PS3.4, table B.2-1), by its first digits or by all four.
FAILURES = {
    "A7": kept_text("it is out of resources"),
    "A9": kept_text("the object does not fit its class"),
    "C": kept_text("it did not understand the object"),
    "0110": kept_text("it failed at the object"),
    "0122": kept_text("it does not support the class of the object"),
    "0124": kept_text("it does not allow us to store there"),
    "0111": kept_text("it has the object already"),
    "": kept_text("it refused the object without a reason"),
}
NOT_NAMED = kept_text("its answer does not say that the object was stored")
PARTLY = kept_text("Not everything was taken.")
WRONG_PATIENT = kept_text(
    "{file} names the patient {named}, and exam {number} is of another one. Put right whose exam it is, or whose photograph, then send it again."
)
UNUSABLE = kept_text(
    "The folder {folder} cannot be used ({reason}). Check that it is there, and that the room may move files in it."
)
NO_FIT = kept_text("Its path does not fit the pattern {pattern}, which tells whose it is.")
#: Why there is no association by DIMSE (PS3.8, table 9-21), by source and reason of its rejection.
REJECTED = kept_text("the association was rejected: {why}.")
REJECTIONS = {
    (1, 1): kept_text("it gives no reason"),
    (1, 3): kept_text("it does not know our title {calling}: enter it there"),
    (1, 7): kept_text("it is not called {title}"),
    (2, 2): kept_text("it speaks another version of the protocol"),
    (3, 1): kept_text("it is busy: try again later"),
    (3, 2): kept_text("it has reached its limit of associations: try again later"),
}
OTHER_REJECTION = kept_text("source {source}, reason {reason}")
NOBODY_BY_DIMSE = kept_text("nothing answers there. Check host and port, and that it runs and may be reached.")
NOBODY_BY_TLS = kept_text("nothing answers there by TLS. Check host and port, and that it runs and may be reached.")
NOTHING_ACCEPTED = kept_text("it takes nothing of what we offered. Ask its administrator which classes it stores.")
CUT_OFF = kept_text("the connection was cut before an association was agreed on. Look into its log.")
CUT_OFF_PLAIN = kept_text(
    "the connection was cut before an association was agreed on. It may ask for TLS. Look into its log."
)
ECHO_REFUSED = kept_text("it answered the echo with {status}. Look into its log.")
#: What the status of a C-STORE means (PS3.4, table B.2-1; PS3.7, annex C); A7xx, A9xx and Cxxx by their first digits.
STORE_STATUSES = {
    0x0000: kept_text("it was stored"),
    0x0111: kept_text("it is there already"),
    0xB000: kept_text("stored, but values were changed there"),
    0xB006: kept_text("stored, but elements were left out there"),
    0xB007: kept_text("stored, though it does not fit its class"),
    0x0110: kept_text("not taken: it failed there; its log says more"),
    0x0117: kept_text("refused: the instance's UID is not valid"),
    0x0122: kept_text("refused: the class is not supported"),
    0x0124: kept_text("refused: we are not allowed to store there"),
    0x0210: kept_text("refused: the message came twice"),
    0x0211: kept_text("refused: storing is not supported"),
    0x0212: kept_text("refused: a value of the message is wrong"),
    0xA7: kept_text("not taken now: out of resources"),
    0xA9: kept_text("refused: the object does not fit its class"),
    0xC: kept_text("refused: the object was not understood"),
}
STORED_WITH_WARNING, REFUSED = kept_text("stored, with a warning"), kept_text("it was refused")
NO_OBJECT = kept_text("it is no DICOM object that can be sent")
LOST = kept_text("the connection was lost")
UNREADABLE = kept_text("the file cannot be read ({reason})")
NOT_AGREED = kept_text("refused: it does not take this class in this transfer syntax")
SILENT = kept_text("no answer came in time, or the connection was lost")
NOT_ASKED = kept_text("commitment could not be asked for")
NO_COMMITMENT = kept_text("it does not offer storage commitment")
NO_ANSWER_TO_QUESTION = kept_text("no answer came to the question")
ANSWERED_WITH = kept_text("it answered with 0x{status}")
FAILED_TO_COMMIT = kept_text("it is not committed")
NOT_NAMED_IN_REPORT = kept_text("the report does not name it")
NOT_COMMITTED = kept_text("The PACS had taken it, and does not answer for it. It is sent again.")
#: Why an instance was not committed (PS3.3, C.14.1.1); 0: any other reason.
COMMITMENT_FAILURES = {
    0x0110: kept_text("processing failure"),
    0x0112: kept_text("it does not have it"),
    0x0213: kept_text("out of resources"),
    0x0122: kept_text("it does not support the class"),
    0x0119: kept_text("class and instance do not fit"),
    0x0131: kept_text("the question came twice"),
    0: kept_text("reason 0x{reason}"),
}
#: Why an object that was sent to us is refused.
TOO_LARGE_HERE = kept_text("It is larger than {most} MB. Export it smaller.")
NO_UID = kept_text("Its SOP Instance UID is none. Ask the maker of what sent it.")
OTHERWISE_ANNOUNCED = kept_text(
    "Class or UID of the object differ from what was announced. Ask the maker of what sent it."
)
NO_PHOTOGRAPH = kept_text("It is {kind}, no photograph. Have photographs sent only.")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An object that was refused: its UID, who sent it, why, in English and whole sentences, and its patient's number.

    `file` is its name among those that were put aside, where the sender had been told that it was taken; blank: it has it still.
    """

    sop_instance: str
    caller: str
    address: str
    why: str
    patient: str = ""
    file: str = ""
