from __future__ import annotations

import csv
import json
import re

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from fundoscope.cli.cohort import app
from fundoscope.cohort import Cohort, Folds, Groups, ProblemKind, audit, make_groups, write_audit_page
from fundoscope.cohort.fingerprints import TURNS, apply_turn, fingerprint
from fundoscope.cohort.near_duplicates import find_near_duplicates
from fundoscope.cohort.registration import align_squares, rotation_about_centre, starting_map, warp_square
from fundoscope.cohort.second_views import find_second_views
from fundoscope.errors import CohortError, UsageError
from fundoscope.imaging import Photograph, read

ROWS, COLUMNS, RADIUS = 240, 320, 156


def retina(seed):
    """A made-up retina, wider than any photograph of it: vessels as branching walks over a mottled ground."""
    rng = np.random.default_rng(seed)
    side = 480
    image = np.empty((side, side, 3), np.float32)
    image[:] = rng.uniform((150, 70, 30), (220, 120, 60))
    image += 12 * cv2.GaussianBlur(rng.normal(size=(side, side, 1)).astype(np.float32), (0, 0), 9)[..., None] * 9
    disc = rng.uniform(150, 330, 2)
    cv2.circle(image, (int(disc[0]), int(disc[1])), 16, (250, 200, 130), -1)
    for heading in rng.uniform(0, 2 * np.pi, 14):
        at, width = disc.copy(), rng.uniform(1.5, 4)
        for _ in range(60):
            heading += rng.normal(0, 0.18)
            after = at + 6 * np.array([np.cos(heading), np.sin(heading)])
            ends = [tuple(int(v) for v in point) for point in (at, after)]
            cv2.line(image, ends[0], ends[1], (110, 30, 20), max(1, round(width)), cv2.LINE_AA)
            at, width = after, width * 0.985
    return np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def view(seed, shift=(0, 0), degrees=0.0):
    """A photograph of it: the field's disc, cut above and below, black around."""
    whole = retina(seed)
    warp = cv2.getRotationMatrix2D((240, 240), degrees, 1)
    warp[:, 2] += np.array([COLUMNS / 2 - 240 + shift[0], ROWS / 2 - 240 + shift[1]])
    pixels = cv2.warpAffine(whole, warp, (COLUMNS, ROWS))
    row, column = np.mgrid[:ROWS, :COLUMNS]
    distance = np.hypot(row - ROWS / 2, column - COLUMNS / 2)
    light = np.clip((RADIUS - distance) / 20, 0, 1) ** 0.5
    return (pixels * light[..., None]).astype(np.uint8)


def jpeg(pixels, quality):
    return cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def png(pixels):
    return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()


def print_of(pixels):
    return fingerprint(Photograph(np.ascontiguousarray(pixels), "eye", 0, "array"))


EYES = [view(seed) for seed in range(8)]
PRINTS = [print_of(pixels) for pixels in EYES]

CHANGES = {
    "jpeg": lambda p: read(jpeg(p, 70)).pixels,
    "brighter": lambda p: np.clip(p * 1.1, 0, 255).astype(np.uint8),
    "darker": lambda p: (p * 0.9).astype(np.uint8),
    "cropped": lambda p: p[12:-12, 16:-16],
    "cropped at one side": lambda p: p[:, 16:],
}


@pytest.mark.parametrize("turn", range(8))
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_and_turned_copy_is_found_and_nothing_else(change, turn):
    copies = [print_of(apply_turn(CHANGES[change](pixels), turn)) for pixels in EYES[:3]]
    found = find_near_duplicates(PRINTS + copies)
    assert [(m.first, m.second) for m in found] == [(0, 8), (1, 9), (2, 10)]
    for match in found:
        assert match.similarity > 0.8
        # turning the copy by what the match says gives the original back
        upright = apply_turn(apply_turn(CHANGES[change](EYES[match.first]), turn), match.turn)
        assert np.array_equal(upright, CHANGES[change](EYES[match.first]))


def test_turns_are_the_eight_symmetries():
    square = np.arange(9).reshape(3, 3)
    assert len(TURNS) == len(set(TURNS)) == len({apply_turn(square, turn).tobytes() for turn in range(8)}) == 8
    assert apply_turn(square, 1)[0].tolist() == [2, 5, 8]  # a quarter to the left: the right edge comes up
    assert apply_turn(square, 4).tolist() == square[:, ::-1].tolist()
    assert apply_turn(square, 6).tolist() == square[::-1].tolist()
    assert apply_turn(square, 7).tolist() == square.T.tolist()


@pytest.mark.parametrize(("shift", "degrees"), [((30, 10), 0), ((-25, 20), 6), ((10, -35), -10), ((0, 15), 12)])
def test_a_second_view_of_an_eye_is_found_and_other_eyes_are_not(shift, degrees):
    moved_eye = print_of(view(2, shift, degrees))
    found = find_second_views([*PRINTS, moved_eye])
    assert [(m.first, m.second, m.turn) for m in found] == [(2, 8, 0)]
    assert not find_near_duplicates([*PRINTS, moved_eye])


def test_mirrored_eyes_are_no_second_views():
    mirrored = [print_of(apply_turn(pixels, 4)) for pixels in EYES]
    assert find_second_views([*PRINTS, *mirrored]) == []


def test_photographs_with_nothing_in_them_match_nothing():
    flat = [print_of(np.full((64, 64, 3), level, np.uint8)) for level in (0, 90, 90, 255)]
    assert find_near_duplicates(flat) == [] and find_second_views(flat) == []


def test_registration_undoes_a_known_motion():
    square = PRINTS[0].fine
    warp = rotation_about_centre(1.05, 7, 128)
    other = warp_square(square, warp)
    score = align_squares(square, other, rotation_about_centre(1, 0, 128))
    assert score.similarity > 0.95 and score.stretch == pytest.approx((1.05, 1.05), abs=0.02)
    # the closed form: at equal sizes, without a shift, the start is the inverse of the motion
    assert np.allclose(starting_map(warp, (0, 0), 128, 128), cv2.invertAffineTransform(warp), atol=1e-4)
    assert starting_map(rotation_about_centre(1, 0, 48), (3, -2), 48, 128)[:, 2] == pytest.approx(
        [-2 * 128 / 48, 3 * 128 / 48]
    )


@pytest.fixture
def cohort(tmp_path):
    """Every kind of fault once, among sound photographs; infants are known."""
    hostile = '<img src=x onerror="alert(1)">.png'
    files = {
        "a.png": png(EYES[0]),
        "a again.png": png(EYES[0]),
        "a other.bmp": cv2.imencode(".bmp", EYES[0][..., ::-1])[1].tobytes(),
        hostile: png(apply_turn(CHANGES["jpeg"](EYES[1]), 5)),
        "b.png": png(EYES[1]),
        "c.png": png(EYES[2]),
        "c moved.png": png(view(2, (20, 10), 5)),
        "d.png": png(EYES[3]),
        "broken.png": png(EYES[4])[:500],
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    labels = {hostile: "normal", "b.png": "rop"}
    infants = {"a.png": "1", "a again.png": "1", "a other.bmp": "1", hostile: "2", "b.png": "2", "c.png": "3"}
    infants |= {"c moved.png": "3", "d.png": "4", "broken.png": "5", "gone.png": "6"}
    rows = [{"image": n, "label": labels.get(n, "rop"), "infant": infants[n]} for n in infants]
    return Cohort.read(Cohort.from_rows(rows, tmp_path).write(tmp_path / "cohort.csv"))


def kinds(found):
    return {(problem.kind, problem.rows) for problem in found.problems}


def test_every_fault_is_found_and_nothing_else(cohort):
    seen = []
    found = audit(cohort, progress=lambda *step: seen.append(step))
    assert kinds(found) == {
        (ProblemKind.MISSING, (9,)),
        (ProblemKind.UNREADABLE, (8,)),
        (ProblemKind.SAME_FILE, (0, 1)),
        (ProblemKind.SAME_PIXELS, (0, 2)),
        (ProblemKind.NEAR_DUPLICATE, (3, 4)),
        (ProblemKind.TWO_LABELS, (3, 4)),
    }
    assert [problem.kind for problem in found.problems] == sorted(
        [problem.kind for problem in found.problems], key=list(ProblemKind).index
    )
    assert not found.clean and found.exit_code == 1
    assert [path.name for path in found.paths] == [cohort[r].path.name for r in (0, 1, 2, 3, 4, 8, 9)]
    assert (5, 6) in {
        (pair.first, pair.second) for pair in found.pairs
    }  # two views of infant 3: no problem, but one group
    assert {stage for stage, _, _ in seen} == {"reading", "comparing"} and all(d <= n for _, d, n in seen)


def without_infants(cohort):
    rows = [{"image": r.image, "label": r.label} for r in cohort if r.image not in ("gone.png", "broken.png")]
    return Cohort.from_rows(rows, cohort[0].path.parent)


def test_without_infants_second_views_are_told_and_joined(cohort):
    bare = without_infants(cohort)
    found = audit(bare)
    assert (ProblemKind.SAME_EYE, (5, 6)) in kinds(found)
    assert make_groups(bare, found.pairs).numbers.tolist() == [0, 0, 0, 1, 1, 2, 2, 3]
    assert make_groups(bare).numbers.tolist() == [0, 0, 1, 2, 3, 4, 5, 6]  # by content alone


def test_one_eye_under_two_infants_is_told(cohort):
    rows = [{"image": r.image, "label": "rop", "infant": str(r.row)} for r in cohort if r.row < 8]
    found = audit(Cohort.from_rows(rows, cohort[0].path.parent))
    assert {rows for kind, rows in kinds(found) if kind is ProblemKind.TWO_INFANTS} == {
        (0, 1),
        (0, 2),
        (3, 4),
        (5, 6),
    }


def test_a_sound_cohort_is_clean(tmp_path):
    for n, pixels in enumerate(EYES):
        (tmp_path / f"{n}.png").write_bytes(png(pixels))
    found = audit(Cohort.from_rows([{"image": f"{n}.png", "label": "rop"} for n in range(8)], tmp_path))
    assert found.clean and found.exit_code == 0 and found.paths == [] and found.pairs == ()


def test_one_infant_or_exam_in_two_spellings_is_told(tmp_path):
    infants = ["007", "7", "7.0", "Ab-01", "ab 01", "1-2", "12", "12"]
    exams = [*"abcdef", "2024-05-01", "2024-5-1"]
    for n, pixels in enumerate(EYES):
        (tmp_path / f"{n}.png").write_bytes(png(pixels))
    rows = [
        {"image": f"{n}.png", "label": "rop", "infant": infant, "exam": exams[n]} for n, infant in enumerate(infants)
    ]
    found = audit(Cohort.from_rows(rows, tmp_path, allow_two_spellings=True))
    assert [(p.kind, p.rows) for p in found.problems] == [
        (ProblemKind.TWO_SPELLINGS, (0, 1, 2)),
        (ProblemKind.TWO_SPELLINGS, (3, 4)),
        (ProblemKind.TWO_EXAM_SPELLINGS, (6, 7)),
    ]
    assert "'007' (row 2), '7' (row 3) and '7.0' (row 4)" in found.problems[0].detail
    assert "write it alike in all rows" in found.problems[0].detail
    with pytest.raises(CohortError, match="the infant is written '007'"):  # everything that groups refuses
        Cohort.from_rows(rows, tmp_path)
    with pytest.raises(CohortError, match="the exam is written '2024-05-01'"):
        Cohort.from_rows(rows[5:], tmp_path)


def test_the_command_names_both_spellings_and_files_that_exist_otherwise(tmp_path):
    for n, pixels in enumerate(EYES[:3]):
        (tmp_path / f"{n}.png").write_bytes(png(pixels))
    (tmp_path / "c.csv").write_text("image;label;infant\n0.png;rop;007\n1.PNG;rop;7\n2.png;rop;8\n")
    result = CliRunner().invoke(app, ["audit", str(tmp_path / "c.csv")])
    assert result.exit_code == 1 and result.stdout.split() == [str(tmp_path / name) for name in ("0.png", "1.PNG")]
    assert "row 3: there is no such file; it exists as 1.png" in result.stderr
    said = " ".join(result.stderr.split())
    assert (
        "row 2, 3: the infant is written '007' (row 2) and '7' (row 3)" in said and "write it alike in all rows" in said
    )


def leaking(cohort):
    """Folds that part infant 1 and the two pictures of b."""
    apart = Groups(tuple(str(row) for row in range(len(cohort))), "none")
    sides = [0, 1, 2, 0, 1, 0, 0, 2, 2, 1]
    rows = [tuple(row for row, side in enumerate(sides) if side == at) for at in range(3)]
    from fundoscope.cohort import Fold

    folds = tuple(Fold(n, rows[n], rows[(n + 1) % 3], rows[(n + 2) % 3]) for n in range(3))
    whole = Folds(folds, apart, 0, cohort.sha256, tuple(r.content() for r in cohort))
    whole.check_partition()
    return whole


def test_leaks_between_folds_are_found(cohort):
    found = audit(cohort, leaking(cohort))
    assert {rows for kind, rows in kinds(found) if kind is ProblemKind.INFANT_SPLIT} == {(0, 1, 2), (3, 4)}
    assert {rows for kind, rows in kinds(found) if kind is ProblemKind.LIKENESS_SPLIT} == {(0, 1), (0, 2), (3, 4)}
    detail = next(p.detail for p in found.problems if p.kind is ProblemKind.INFANT_SPLIT)
    assert detail.startswith("infant 1, fold 0: inner and test and train")
    with pytest.raises(UsageError):
        audit(without_infants(cohort), leaking(cohort))


def test_the_page_is_whole_and_safe(cohort, tmp_path):
    page = write_audit_page(audit(cohort), tmp_path / "deep" / "out").read_text("utf-8")
    assert "<img src=x" not in page and "&lt;img src=x" in page
    assert set(re.findall(r'src="([^"]{5})', page)) == {"data:"} and not re.search(r"https?://|<link|<script", page)
    assert page.index("<table") < page.index("<article>") < page.index("<details>") < page.index("Similarity is the")
    headline = "6 problems found; 7 of 10 photographs of 6 infants are concerned."
    assert page.index(headline) < page.index("<table")
    assert set(re.findall(r'href="#([\w-]+)"', page)) == set(re.findall(r'<h2 id="([\w-]+)"', page)) != set()
    assert page.count("<article>") == 6 and "prefers-color-scheme: dark" in page
    assert "turned a quarter to the left, then mirrored" in page
    with (tmp_path / "deep" / "out" / "problems.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 and rows[0]["kind"] == "missing" and rows[0]["image"] == "gone.png"
    near = [row for row in rows if row["kind"] == "near-duplicate"]
    assert float(near[0]["similarity"]) > 0.8 and [row["row"] for row in near] == ["5", "6"]


def test_the_command_prints_paths_alone_and_exits_by_what_it_found(cohort, tmp_path):
    runner = CliRunner()
    result = runner.invoke(app, ["audit", str(tmp_path / "cohort.csv"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [str(cohort[r].path) for r in (0, 1, 2, 3, 4, 8, 9)]
    assert "near-duplicate" in result.stderr and (tmp_path / "out" / "audit.html").exists()


def test_the_command_checks_folds_even_when_they_leak(cohort, tmp_path):
    folds = leaking(cohort)
    values = folds.to_json() | {"photographs": [dict(p) for p in folds.photographs]}
    (tmp_path / "folds.json").write_text(json.dumps(values))
    arguments = ["audit", str(tmp_path / "cohort.csv"), "--folds", str(tmp_path / "folds.json")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1 and "infant on two sides of a split" in result.stderr


def test_from_folders_writes_a_table_and_leaves_an_old_one_alone(tmp_path):
    for label in ("normal", "rop"):
        (tmp_path / "data" / label).mkdir(parents=True)
        (tmp_path / "data" / label / "x.png").write_bytes(png(EYES[0 if label == "rop" else 1]))
    arguments = ["from-folders", str(tmp_path / "data"), "--out", str(tmp_path / "c.csv")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0 and result.stdout == f"{tmp_path / 'c.csv'}\n"
    assert (tmp_path / "c.csv").read_text() == "image,label\ndata/normal/x.png,normal\ndata/rop/x.png,rop\n"
    assert isinstance(CliRunner().invoke(app, arguments).exception, UsageError)
    clean = CliRunner().invoke(app, ["audit", str(tmp_path / "c.csv")])
    assert clean.exit_code == 0 and clean.stdout == "" and "clean" in clean.stderr
