"""What is said where another system does not do its part. It is kept in English with what it is about, and translated where it is shown."""

from __future__ import annotations

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
