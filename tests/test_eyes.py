import pytest

from fundoscope.bundles.card import DecisionThreshold, EyeDecision
from fundoscope.evaluation.decisions import EyeRule, EyeViews
from fundoscope.findings import NOTHING_SEEN, RopFinding, Status, exit_code
from fundoscope.rop.screening.eyes import EYE_COLUMNS, ScreenedEyes


def rule(views, threshold, measured=True):
    point = DecisionThreshold(
        threshold=threshold, rule="by hand", data="40 eyes", n_positive=9, sensitivity_bound="9 of 9"
    )
    return EyeDecision(views=views, operating_point=point, measured=measured)


RULE = rule("any", 0.5, measured=False)


def ok(p, rop):
    return RopFinding(f"{p}.png", Status.OK, p_rop=p, rop=rop, quality=0.9)


REFUSED = RopFinding("r.png", Status.REJECTED, "blurred", quality=0.1)
FAILED = RopFinding("f.png", Status.FAILED, "empty")


def test_one_suspicious_view_is_enough():
    eyes = ScreenedEyes(RULE)
    for finding in (ok(0.1, False), ok(0.8, True), REFUSED, FAILED):
        eyes.add("7", "left", "1", finding.as_row())
    (row,) = eyes.rows()
    assert tuple(row) == EYE_COLUMNS
    assert (row["views"], row["views_graded"], row["views_refused"], row["views_failed"]) == (4, 2, 1, 1)
    assert row["rop"] == "yes" and row["p_rop"] == 0.8 and row["flag"] == ""


def test_negatives_never_read_as_normal_and_refusals_never_as_negative():
    eyes = ScreenedEyes(RULE)
    eyes.add("7", "left", None, ok(0.1, False).as_row())
    eyes.add("7", "right", None, REFUSED.as_row())
    left, right = eyes.rows()
    assert left["decision"] == NOTHING_SEEN
    assert right["rop"] is None and right["p_rop"] is None and right["decision"].startswith("not graded")


def test_missing_laterality_and_unknown_infants_are_flagged_and_kept_apart():
    eyes = ScreenedEyes(RULE)
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


@pytest.mark.parametrize(("views", "p", "rop"), [("any", 0.8, "yes"), ("second", 0.3, "no"), ("mean", 0.4299, "no")])
def test_an_eye_is_decided_by_the_rule_of_the_card(views, p, rop):
    eyes = ScreenedEyes(rule(views, 0.45))
    for finding in (ok(0.2, False), ok(0.8, True), ok(0.3, False), REFUSED):
        eyes.add("7", "left", "1", finding.as_row())
    (row,) = eyes.rows()
    assert row["rop"] == rop and row["p_rop"] == pytest.approx(p, abs=1e-4)
    assert "0.4500" in row["rule"] and "40 eyes" in row["rule"] and "refused views are left out" in row["rule"]
    assert ("suspected in 1 of 3 views by itself" in row["flag"]) == (rop == "no")


def test_a_rule_that_was_never_measured_says_so():
    assert "NEVER MEASURED on eyes" in RULE.words and "NEVER" not in rule("any", 0.5).words


def test_one_view_is_decided_as_its_photograph_where_the_rule_was_not_measured():
    for p in (0.41994, 0.41996, 0.4199517, 0.42):
        eyes = ScreenedEyes(rule("any", 0.4199516782576541, measured=False))
        eyes.add("7", "left", "1", ok(p, p >= 0.4199516782576541).as_row())
        assert eyes.rows()[0]["rop"] == ("yes" if p >= 0.4199516782576541 else "no"), p


def test_treatment_is_said_of_suspected_eyes_only():
    view = RopFinding("t.png", Status.OK, p_rop=0.8, rop=True, p_tr=0.9, treatment_requiring=True)
    for views, answer in (("any", "yes"), ("second", None)):
        eyes = ScreenedEyes(rule(views, 0.5))
        for finding in (view, ok(0.1, False)):
            eyes.add("7", "left", "1", finding.as_row())
        assert eyes.rows()[0]["treatment_requiring"] == answer


def test_screening_and_study_decide_the_same_eyes():
    """What a study measures with `EyeRule` on a whole cohort is what screening says of each eye."""
    import numpy as np

    rng = np.random.default_rng(0)
    keys = [(f"i{rng.integers(12)}", "left") for _ in range(60)]
    p, graded = rng.random(60), rng.random(60) > 0.3
    for views in ("any", "second", "mean"):
        screened = ScreenedEyes(rule(views, 0.5))
        for (infant, eye), value, is_graded in zip(keys, p, graded, strict=True):
            screened.add(infant, eye, None, (ok(float(value), value >= 0.3) if is_graded else REFUSED).as_row())
        measured = EyeRule(views, 0.5)
        p_eye = measured.probabilities(p, graded, EyeViews.from_keys(keys))
        words = {True: "yes", False: "no"}
        expected = [None if np.isnan(each) else words[bool(measured.suspects(each))] for each in p_eye]
        assert [row["rop"] for row in screened.rows()] == expected
