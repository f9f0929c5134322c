import cv2
import numpy as np
import pytest

from fundoscope.evaluation import auc
from fundoscope.evaluation.controls import VESSEL_FEATURES, vessel_baseline, vessel_features, vessel_table
from fundoscope.imaging import Photograph
from fundoscope.simulate.infants import infant


def photograph(pixels):
    return Photograph(np.ascontiguousarray(pixels), "made", 0, "array")


@pytest.fixture(scope="module")
def eyes():
    """Normal eyes, and eyes with plus disease, posterior and clear."""
    found = {"none": [], "plus": []}
    seed = 0
    while min(len(each) for each in found.values()) < 3:
        disease = "normal" if seed % 2 else "treatment-requiring"
        eye = infant(seed, disease=disease, level="good", camera="retcam")
        if eye.truth.plus in found and eye.truth.aim == "posterior" and len(found[eye.truth.plus]) < 3:
            found[eye.truth.plus].append(photograph(eye.pixels))
        seed += 1
    return found


def test_vessels_wind_more_in_plus_disease(eyes):
    table = vessel_table([*eyes["none"], *eyes["plus"]])
    assert np.isfinite(table).all() and (table >= 0).all()
    y = np.repeat([0, 1], 3)
    assert auc(y, table[:, VESSEL_FEATURES.index("tortuosity, mean")]) > 0.85


def test_a_mirror_changes_little(eyes):
    some = [*eyes["none"][:2], *eyes["plus"][:2]]
    plain, mirrored = vessel_table(some), vessel_table([photograph(eye.pixels[:, ::-1]) for eye in some])
    steady = [VESSEL_FEATURES.index(name) for name in ("width, mean", "density")]
    np.testing.assert_allclose(mirrored[:, steady], plain[:, steady], rtol=0.06)
    # one vessel that breaks in another place moves an eye's tortuosity, not that of many eyes
    np.testing.assert_allclose(mirrored.mean(axis=0), plain.mean(axis=0), rtol=0.12)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_picture_without_vessels_has_measures_too(level):
    values = vessel_features(photograph(np.full((240, 320, 3), level, np.uint8)))
    assert tuple(values) == VESSEL_FEATURES and np.isfinite(list(values.values())).all()


def retina():
    picture = np.zeros((540, 540, 3), np.uint8)
    return cv2.circle(picture, (270, 270), 265, (190, 110, 60), -1)


def drawn(amplitude, thickness=7):
    """Three vessels across a field of 265 pixels' radius, waving by so many pixels."""
    picture, x = retina(), np.arange(60, 480)
    for row in (170, 270, 370):
        points = np.column_stack([x, row + amplitude * np.sin(x / 14)]).astype(np.int32)
        cv2.polylines(picture, [points], False, (110, 40, 40), thickness, cv2.LINE_AA)
    return picture


def test_straight_lines_do_not_wind_and_waves_do():
    straight, waving = (vessel_features(photograph(drawn(amplitude))) for amplitude in (0, 12))
    assert straight["tortuosity, mean"] < 0.02
    x = np.arange(60, 480)
    arc = np.hypot(1, np.diff(12 * np.sin(x / 14))).sum() / (x[-1] - x[0]) - 1
    assert waving["tortuosity, mean"] == pytest.approx(arc, rel=0.25)


@pytest.mark.parametrize("thickness", [5, 7, 11])
def test_width_is_in_radii_of_the_field(thickness):
    picture = drawn(0, thickness)
    # how much ink lies across the vessel: smooth lines are painted wider than they are asked for
    ink = (110.0 - picture[150:190, 200, 1]).sum() / (110 - 40)
    assert vessel_features(photograph(picture))["width, mean"] == pytest.approx(ink / 265, rel=0.1)


def test_a_camera_that_cuts_the_field_shows_no_wider_vessels():
    whole, cut = (vessel_features(photograph(p)) for p in (drawn(0), drawn(0)[100:440]))
    assert cut["width, mean"] == pytest.approx(whole["width, mean"], rel=0.05)


def test_a_ring_is_not_taken_for_an_endless_winding():
    picture = retina()
    cv2.ellipse(picture, (270, 270), (90, 90), 0, 5, 355, (110, 40, 40), 7, cv2.LINE_AA)
    values = vessel_features(photograph(picture))
    assert values["width, mean"] > 0 and max(values.values()) == 1.0


def test_the_baseline_is_scored_out_of_fold():
    rng = np.random.default_rng(0)
    y = np.tile([0, 1], 20)
    table = rng.normal(size=(40, len(VESSEL_FEATURES)))
    table[:, 0] += 2 * y
    halves = [(np.arange(20), np.arange(20, 40)), (np.arange(20, 40), np.arange(20))]
    assert auc(y, vessel_baseline(table, y, halves).p) > 0.7
