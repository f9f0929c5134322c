from fundoscope.findings import NOTHING_SEEN, RopFinding, Status, exit_code
from fundoscope.rop.screening.eyes import EYE_COLUMNS, ScreenedEyes


def ok(p, rop):
    return RopFinding(f"{p}.png", Status.OK, p_rop=p, rop=rop, quality=0.9)


REFUSED = RopFinding("r.png", Status.REJECTED, "blurred", quality=0.1)
FAILED = RopFinding("f.png", Status.FAILED, "empty")


def test_one_suspicious_view_is_enough():
    eyes = ScreenedEyes()
    for finding in (ok(0.1, False), ok(0.8, True), REFUSED, FAILED):
        eyes.add("7", "left", "1", finding.as_row())
    (row,) = eyes.rows()
    assert tuple(row) == EYE_COLUMNS
    assert (row["views"], row["views_graded"], row["views_refused"], row["views_failed"]) == (4, 2, 1, 1)
    assert row["rop"] == "yes" and row["p_rop"] == 0.8 and row["flag"] == ""


def test_negatives_never_read_as_normal_and_refusals_never_as_negative():
    eyes = ScreenedEyes()
    eyes.add("7", "left", None, ok(0.1, False).as_row())
    eyes.add("7", "right", None, REFUSED.as_row())
    left, right = eyes.rows()
    assert left["decision"] == NOTHING_SEEN
    assert right["rop"] is None and right["p_rop"] is None and right["decision"].startswith("not graded")


def test_missing_laterality_and_unknown_infants_are_flagged_and_kept_apart():
    eyes = ScreenedEyes()
    eyes.add("7", None, None, ok(0.1, False).as_row())
    eyes.add(None, "left", None, ok(0.2, False).as_row())
    eyes.add(None, "left", None, ok(0.3, False).as_row())
    rows = eyes.rows()
    assert len(rows) == 3
    assert "laterality missing" in rows[0]["flag"] and "infant unknown" in rows[1]["flag"]


def test_rows_spell_out_what_they_hold():
    row = ok(0.123456, True).as_row()
    assert row["p_rop"] == 0.1235 and row["rop"] == "yes" and row["status"] == "ok" and row["p_tr"] is None
    assert exit_code([Status.OK, Status.REJECTED]) == 0
    assert exit_code([Status.OK, Status.FAILED]) == 1
