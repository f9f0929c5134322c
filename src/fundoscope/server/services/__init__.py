"""What may happen in the reading room. Every function takes a session of one transaction and the `Caller`, checks what the caller may
do, changes rows, and writes the audit log in the same transaction. No service knows of HTTP.

    sessions         signing in, unlocking, asking for the password again (people)
    accounts         links, accounts, sites
    tokens           programs' keys to /v1
    audit            the log as a chain of hashes
    patients, exams  infants and adults, their exams, corrections
    uploads          photographs in: files, folders, archives; receipts
    jobs             the queue
    judging          the answer of a grader into the tables
    worklist         who comes first; filters and search
    readings         findings, signing, corrections, addenda
    second_readings  masked double reading, hidden repeats, adjudication
    signed_reports   HTML and PDF of a signed reading
    programme        coverage, overdue, lost to follow-up; agreement over time
    exports          cohort and patches for studies
"""
