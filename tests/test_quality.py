import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fundoscope.errors import BundleError
from fundoscope.imaging import Prepared, find_field
from fundoscope.imaging import quality as module
from fundoscope.imaging.field import shrunk
from fundoscope.imaging.measures import SIDE, field_square, measure
from fundoscope.imaging.quality import SupportVectorMachine, judge_quality
from fundoscope.simulate import adult, infant

OUTSIDE = "outside the intended use"


def verdict(picture, expects="infant"):
    return judge_quality(Prepared.read(picture), expects)


def noise(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (300, 400, 3), dtype=np.uint8)


def page():
    picture = np.full((600, 480, 3), 245, np.uint8)
    for row in range(40, 580, 24):
        cv2.putText(picture, "the quick brown fox jumps over", (20, row), 0, 0.7, (20, 20, 20), 1, cv2.LINE_AA)
    return picture


def disc(colour=(200, 90, 30)):
    picture = np.zeros((480, 640, 3), np.uint8)
    cv2.circle(picture, (320, 240), 220, colour, -1)
    return picture


def leaves():
    rng = np.random.default_rng(5)
    picture = np.zeros((400, 480, 3), np.uint8)
    for _ in range(400):
        centre, axes = rng.integers(0, 480, 2), rng.integers(5, 60, 2)
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        cv2.ellipse(picture, tuple(map(int, centre)), tuple(map(int, axes)), 30, 0, 360, colour, -1, cv2.LINE_AA)
    return picture


INFANT = infant(1, camera="full-circle", level="good", size=480).pixels
ADULT = adult(1, camera="drive", level="good", size=480).pixels
CLEAR = infant(1, camera="retcam", level="good", size=480).pixels


# ---- the verdict


def test_a_sharp_infants_eye_is_gradable():
    told = verdict(INFANT)
    assert told.gradable
    assert told.reasons == ()
    assert told.score > 0.5


def test_an_adults_eye_is_outside_the_use_of_the_infants_grader_and_the_other_way_round():
    assert verdict(ADULT, "adult").gradable
    assert verdict(ADULT, "infant").reasons[0].startswith(f"{OUTSIDE}: looks like an adult's photograph")
    assert verdict(INFANT, "adult").reasons[0].startswith(f"{OUTSIDE}: looks like an infant's photograph")


@pytest.mark.parametrize("expects", ["infant", "adult"])
@pytest.mark.parametrize("picture", [noise(), page(), disc(), leaves(), disc((120, 120, 120))])
def test_what_is_no_retina_is_refused(picture, expects):
    told = verdict(picture, expects)
    assert not told.gradable
    assert "retina" in told.reasons[0] or "focus" in told.reasons[0]
    assert told.score < 0.5


def test_a_foreign_picture_behind_a_round_mask_is_refused():
    picture = cv2.resize(leaves(), (480, 480))
    picture[INFANT.max(axis=2) < 20] = 0
    assert not verdict(picture).gradable


@pytest.mark.parametrize("made", [INFANT, ADULT])
def test_strong_blur_is_refused_and_mild_blur_is_not(made):
    kind = "adult" if made is ADULT else "infant"
    strong = verdict(cv2.GaussianBlur(made, (0, 0), 240 / 20), kind)
    assert any("focus" in reason for reason in strong.reasons)
    assert verdict(cv2.GaussianBlur(made, (0, 0), 240 / 200), kind).gradable


def test_darkness_is_refused_and_a_little_less_light_is_not():
    assert any("dark" in reason for reason in verdict((INFANT * 0.12).astype(np.uint8)).reasons)
    assert verdict((INFANT * 0.6).astype(np.uint8)).gradable


def test_overexposure_is_refused():
    bright = np.where(INFANT.max(axis=2, keepdims=True) > 20, 255, 0).astype(np.uint8).repeat(3, axis=2)
    assert "overexposed" in verdict(bright).reasons[0]


def test_a_thumbnail_is_too_small():
    reason = verdict(cv2.resize(INFANT, (120, 120), interpolation=cv2.INTER_AREA)).reasons[0]
    assert reason.startswith("too small: the field is only 1")


def test_half_a_field_is_too_narrow():
    narrow = INFANT.copy()
    narrow[:, 190:] = 0
    assert not verdict(narrow).gradable


def test_score_falls_with_blur():
    scores = [verdict(cv2.GaussianBlur(INFANT, (0, 0), s)).score for s in (0.5, 4.0, 12.0)]
    assert scores[0] > scores[1] > scores[2]


def test_every_code_has_a_message_that_ends_with_what_to_do():
    for text in module.REASONS.values():
        assert text.endswith(".")
        assert ". " in text


def test_codes_and_messages_go_together():
    told = verdict(cv2.resize(INFANT, (120, 120), interpolation=cv2.INTER_AREA))
    assert told.codes == ("too_small",)
    assert told.reasons[0].startswith("too small: the field is only 1")
    assert verdict(ADULT).codes == ("adult_eye",)
    assert verdict(INFANT, "adult").codes == ("infant_eye",)
    assert verdict(INFANT).codes == verdict(INFANT).reasons == ()


@settings(max_examples=25, deadline=None)
@given(
    st.integers(32, 90),
    st.integers(32, 90),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 1, 128, 255, None]),
)
def test_any_picture_has_a_verdict(rows, columns, seed, level):
    rng = np.random.default_rng(seed)
    if level is None:
        picture = rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    else:
        picture = np.full((rows, columns, 3), level, np.uint8)
    told = verdict(picture)
    assert told.gradable == (not told.reasons)
    assert 0 <= told.score <= 1
    assert all(math.isfinite(value) for value in told.measures.values())


# ---- the network


def test_what_the_measurements_call_a_retina_is_not_shown_to_the_network(monkeypatch):
    monkeypatch.setattr(module, "quality_network", None)  # would fail if it were called
    assert judge_quality(Prepared.read(INFANT), "infant").gradable


@pytest.mark.parametrize(("made", "expects"), [(CLEAR, "infant"), (ADULT, "adult")])
def test_a_retina_that_the_measurements_do_not_know_is_refused_as_enhanced(monkeypatch, made, expects):
    machines = module._machines()
    monkeypatch.setattr(module, "_machines", lambda: {**machines, "retina": replace(machines["retina"], threshold=1.1)})
    told = judge_quality(Prepared.read(made), expects)
    assert told.codes == ("enhanced",) and not told.gradable
    assert "as the camera made it" in told.reasons[0]


@pytest.mark.parametrize("picture", [noise(), page(), disc(), leaves(), disc((120, 120, 120))])
def test_the_network_sees_a_retina_in_nothing_else(picture):
    assert not module.quality_network().sees_retina(Prepared.read(picture), 0.3)


def test_both_opinions_weigh():
    network, photograph = module.quality_network(), Prepared.read(CLEAR)
    probabilities = [network.retina_probability(photograph, measured) for measured in (1e-9, 1e-4, 0.01, 0.4)]
    assert probabilities[0] == probabilities[1] < probabilities[2] < probabilities[3]


def test_a_network_with_another_checksum_is_refused(tmp_path):
    folder = Path(module.__file__).parent
    card = json.loads((folder / "quality_network.json").read_text(encoding="utf-8"))
    (tmp_path / card["file"]).write_bytes((folder / card["file"]).read_bytes()[:-1] + b"x")
    (tmp_path / "card.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(BundleError, match="install Fundoscope again"):
        module.QualityNetwork.open(tmp_path / "card.json")


def test_the_network_is_small_and_its_card_says_what_it_was_made_from():
    folder = Path(module.__file__).parent
    card = json.loads((folder / "quality_network.json").read_text(encoding="utf-8"))
    assert (folder / card["file"]).stat().st_size <= 300 * 1024
    assert card["trained_on"]["pictures"]["infant"] > 100
    assert 0.5 < card["limit"] < 1
    assert card["held_out"]["kinds"]["foreign"]["n"] > 100
    assert card["use"] == "research use only"


# ---- the measurements


def measured(picture):
    return measure(Prepared.read(picture))


def test_dark_lines_answer_as_dark_and_bright_lines_as_bright():
    level = np.full((480, 480, 3), 120, np.uint8)
    dark, bright = level.copy(), level.copy()
    for at in range(40, 480, 80):
        cv2.line(dark, (at, 0), (at, 479), (90, 90, 90), 4)
        cv2.line(bright, (at, 0), (at, 479), (150, 150, 150), 4)
    assert measured(dark)["asymmetry1"] > 0.3
    assert measured(bright)["asymmetry1"] < -0.3


def test_wide_lines_answer_at_a_coarser_scale_than_thin_ones():
    thin, wide = measured(INFANT), measured(ADULT)
    assert wide["dark2_99"] - wide["dark0_99"] > thin["dark2_99"] - thin["dark0_99"]


def test_measurements_do_not_know_the_pixel_count():
    big = cv2.resize(INFANT, (1440, 1440), interpolation=cv2.INTER_CUBIC)
    small, large = measured(INFANT), measured(big)
    for name in ("dark1_99", "dark2_99", "steep_99", "red_follows", "coherence", "entropy"):
        assert large[name] == pytest.approx(small[name], abs=0.2), name


@pytest.mark.parametrize("turn", [lambda p: p[::-1], lambda p: p[:, ::-1], lambda p: p.transpose(1, 0, 2)])
def test_measurements_do_not_know_which_way_is_up(turn):
    upright, turned = measured(INFANT), measured(np.ascontiguousarray(turn(INFANT)))
    for name, value in upright.items():
        assert turned[name] == pytest.approx(value, abs=0.2, rel=0.02), name


def test_contrast_does_not_depend_on_the_light():
    bright, dim = measured(INFANT), measured((INFANT * 0.7).astype(np.uint8))
    for name in ("dark1_99", "dark2_99", "red_follows", "red_green"):
        assert dim[name] == pytest.approx(bright[name], abs=0.15), name


def test_blood_that_red_light_does_not_show():
    assert measured(INFANT)["red_follows"] < 0.8
    grey = cv2.cvtColor(cv2.cvtColor(INFANT, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    assert measured(grey)["red_follows"] == pytest.approx(1, abs=0.08)
    assert measured(grey)["grey"] == 1


def test_view_centres_the_field():
    picture = np.zeros((300, 500, 3), np.uint8)
    cv2.circle(picture, (180, 150), 140, (200, 120, 60), -1)
    seen = field_square(Prepared.read(picture))
    inside = np.argwhere(seen.inside)
    assert seen.red.shape == (SIDE, SIDE)
    assert inside.mean(axis=0) == pytest.approx([SIDE / 2, SIDE / 2], abs=2)
    assert (seen.red[seen.inside] == 200).mean() > 0.99
    assert (seen.blue[seen.inside] == 60).mean() > 0.99


# ---- the table


def one_point(**changes):
    values = {
        "names": ["a", "b"],
        "mean": [1, 2],
        "deviation": [2, 1],
        "limit": 3,
        "points": [[0.5, 1]],
        "weights": [2],
    }
    numbers = {"gamma": 0.1, "offset": -0.5, "slope": 3, "shift": 0.25, "threshold": 0.4, "upper": 0.6}
    return SupportVectorMachine.from_json({**values, **numbers, **changes})


def test_kernel_is_the_closed_form():
    # a = 3 -> z = 1, b = 2 -> z = 0: squared distance 0.25 + 1
    score = 2 * math.exp(-0.125) - 0.5
    assert one_point().probability({"a": 3, "b": 2}) == pytest.approx(1 / (1 + math.exp(-(3 * score + 0.25))))


def test_kernel_is_scikit_learns():
    svm = pytest.importorskip("sklearn.svm")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 2))
    machine = svm.SVC(C=2, gamma=0.3).fit(x, x[:, 0] * x[:, 1] > 0)
    ours = one_point(
        mean=[0, 0], deviation=[1, 1], limit=9, slope=1, shift=0, gamma=0.3, points=machine.support_vectors_,
        weights=machine.dual_coef_[0], offset=machine.intercept_[0],
    )  # fmt: skip
    for a, b in rng.normal(size=(20, 2)):
        logit = machine.decision_function([[a, b]])[0]
        assert ours.probability({"a": a, "b": b}) == pytest.approx(1 / (1 + math.exp(-logit)))


def test_kernel_goes_no_further_out_than_its_limit():
    assert one_point().probability({"a": 99, "b": 2}) == one_point().probability({"a": 7, "b": 2})


def test_the_table_names_only_measurements_that_exist():
    table = json.loads(Path(module.__file__).with_name("quality_table.json").read_text(encoding="utf-8"))
    known = set(measured(INFANT))
    assert set(table["models"]) == {"retina", "sharp", "infant"}
    for model in table["models"].values():
        assert set(model["names"]) <= known
        assert np.isfinite(model["points"]).all()
        assert np.shape(model["points"]) == (len(model["weights"]), len(model["names"]))
        assert min(model["deviation"]) > 0
        assert 0 < model["threshold"] <= model["upper"] < 1


def test_judging_loads_neither_scipy_nor_skimage():
    code = "import sys, fundoscope.imaging.quality; sys.exit(bool({'scipy', 'skimage'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- the field, as the verdict needs it


def test_a_photograph_cropped_inside_its_field_has_no_rim():
    inner = INFANT[110:370, 110:370]
    field = find_field(inner)
    assert not field.found
    assert field.lit_share == 1


def test_seen_is_the_share_of_the_circle():
    whole = find_field(INFANT)
    assert whole.visible_share == pytest.approx(1, abs=0.02)
    half = type(whole)(row=0.0, column=240.0, radius=200.0, shape=(480, 480), found=True, lit_share=1.0)
    assert half.visible_share == pytest.approx(0.5, abs=0.01)


def test_shrunk_halves_by_exact_means():
    picture = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    means = picture.reshape(16, 4, 24, 4, 3).mean(axis=(1, 3))
    assert np.abs(shrunk(picture, (16, 24)) - means).max() <= 1.5
