import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest
from test_reports import HOSTILE, Page, assert_policy_fits, assert_self_contained

from fundoscope.errors import OutputError
from fundoscope.findings import NickingFinding, PatchFinding, Status
from fundoscope.reports.nicking import WORDS, CrossingCard, NickingHeader, NickingReport, summarise_eye
from fundoscope.reports.nicking_pictures import COLOURS, SIDE, UNGRADED, draw_attention, draw_boxes, draw_vessels
from fundoscope.reports.profile import HEIGHT, WIDTH, draw_profile, percent, signed
from fundoscope.vessels import Narrowing, draw
from fundoscope.vessels.narrowing import VeinProfile


class Drawn(Page):
    """A page that may hold drawings with lines and paths."""

    def handle_startendtag(self, tag, attrs):
        if tag in ("polyline", "path"):
            self.tags.append((tag, dict(attrs)))
        else:
            super().handle_startendtag(tag, attrs)


def narrowing(side_1=0.4, side_2=-0.1, level=100.0):
    """A vein of 9 pixels, seen at quarter widths up to 5 from an artery of 6; what is beside it narrowed as told."""
    place = np.concatenate([[0.0], np.arange(0.45, 5.0, 0.25)])
    seen = [level * np.where(place == 0, 1 - side, 1.0) for side in (side_1, side_2)]
    n = 2 * len(place)
    bins = VeinProfile(
        np.tile(place, 2), np.repeat([1, 2], len(place)), np.concatenate(seen), np.zeros((n, 2)), np.zeros((n, 2)),
        np.tile(place == 0, 2),
    )  # fmt: skip
    beside = [float(bins.apparent_width[bins.beside_artery & (bins.side == side)][0]) for side in (1, 2)]
    return Narrowing(1 - beside[0] / level, 1 - beside[1] / level, 6.0, 9.0, bins, 9.0)


def card(**changed):
    rng = np.random.default_rng(3)
    values = {
        "pixels": rng.integers(60, 200, (128, 128, 3)).astype(np.uint8),
        "maps": rng.integers(0, 255, (128, 128, 3)).astype(np.uint8),
        "attention": rng.random((16, 16)).astype(np.float32),
        "narrowing": narrowing(),
    }
    return CrossingCard(**values | changed)


def crossing(number, grade=None, file="a.png", **changed):
    values = {"row": 60.0 * number, "col": 90.0, "confidence": 0.9, "artery_width_px": 6.0, "vein_width_px": 9.0,
              "narrowing_1": 0.4, "narrowing_2": -0.1, "probabilities": (0.1, 0.2, 0.3, 0.4), "grade": grade}  # fmt: skip
    return NickingFinding(file, Status.OK, "" if grade is not None else "the reason", number, **values | changed)


def header(**changed):
    values = {
        "kind": "photograph",
        "bundle": "nicking",
        "date": "2026-11-25",
        "program": "fundoscope",
        "facts": {"For": "adults"},
    }
    return NickingHeader(**values | changed)


PHOTOGRAPH = cv2.GaussianBlur(np.random.default_rng(0).integers(20, 200, (300, 320, 3)).astype(np.uint8), (0, 0), 3)
FOUR = [crossing(1, 0), crossing(2, 3), crossing(3), crossing(4, 2)]
REFUSED = NickingFinding("infant.png", Status.REJECTED, "an infant's")
FAILED = NickingFinding("cut.png", Status.FAILED, "cut short")


def photographs(path, entries, **changed):
    with NickingReport(path, header(**changed)) as report:
        for number, findings in enumerate(entries, 1):
            seen = findings[0].status is not Status.FAILED
            cards = [card() for one in findings if one.crossing]
            report.add_photograph(number, findings, PHOTOGRAPH if seen else None, cards)
    return Drawn(path.read_text(encoding="utf-8"))


def patches(path, entries):
    with NickingReport(path, header(kind="patch")) as report:
        for number, (finding, shown) in enumerate(entries, 1):
            report.add_patch(number, finding, shown)
    return Drawn(path.read_text(encoding="utf-8"))


def classed(page, name):
    return [attrs for _, attrs in page.tags if name in (attrs.get("class") or "").split()]


# --- the page


def test_every_photograph_has_its_place_and_every_crossing_its_card_in_order(tmp_path):
    page = photographs(
        tmp_path / "report.html", [FOUR, [REFUSED], [FAILED], FOUR, [NickingFinding("b.png", Status.OK)]]
    )
    assert [one["id"] for one in classed(page, "sheet")] == [f"photograph-{k}" for k in range(1, 6)]
    assert [one["id"] for one in classed(page, "crossing")] == [
        f"crossing-{k}-{n}" for k in (1, 4) for n in range(1, 5)
    ]
    assert [one["class"].split()[-1] for one in classed(page, "crossing")[:4]] == [
        "graded-0",
        "graded-3",
        "open",
        "graded-2",
    ]
    assert [one["class"] for one in classed(page, "sheet")] == [
        f"sheet {s}" for s in ("ok", "rejected", "failed", "ok", "ok")
    ]
    assert len(page.all("img")) == 1 + 4 + 8 * 3  # the legend, photographs, patch and vessels and attention
    assert "an infant's" in page.text(".reason") and "cut short" in page.text(".reason")
    assert "No crossing seen in this view; this excludes nothing" in page.text(".decision")
    assert_self_contained(page)
    assert_policy_fits(page)


def test_it_is_for_research_and_a_grade_of_none_is_never_called_healthy(tmp_path):
    page = photographs(tmp_path / "report.html", [FOUR])
    assert page.text(".stamps") == "Research use only" and "research use only" in page.text("footer").lower()
    assert not {"healthy", "normal"} & set(page.text().lower().split())


def test_results_stand_first_and_the_explanation_is_folded(tmp_path):
    page = photographs(tmp_path / "report.html", [[crossing(1, 0)], FOUR, [REFUSED], [crossing(1, 2, file="b.png")]])
    source, main = page.source, page.all("main")[0]["class"].split()
    assert "results-first" in main and source.index('class="summary"') < source.index('<details class="fold">')
    guide = source[source.index('<details class="fold">') : source.index("</details>")]
    for told in ("How to read this page", "The curve", "What graded them", "Graded by the networks alone"):
        assert told in guide and told not in source.replace(guide, "")
    rows = [attrs["href"] for attrs in page.all("a") if attrs["href"].startswith("#photograph-")]
    assert rows == 2 * ["#photograph-2"] + 2 * ["#photograph-4"], "the worst of those with grade 2 or 3 first"
    assert "grade 3 severe, both sides" in page.text(".attention")


def test_without_a_high_grade_nothing_is_listed_first_and_of_many_the_worst_are(tmp_path, monkeypatch):
    assert not classed(photographs(tmp_path / "a.html", [[crossing(1, 1)]]), "attention")
    monkeypatch.setattr("fundoscope.reports.nicking._LISTED", 2)
    page = photographs(tmp_path / "b.html", [[crossing(1, 2)], [crossing(1, 3)], [crossing(1, 2)], [crossing(1, 3)]])
    rows = [attrs["href"] for attrs in page.all("a") if attrs["href"].startswith("#photograph-")]
    assert rows == 2 * ["#photograph-2"] + 2 * ["#photograph-4"] and "The 2 worst of 4" in page.text(".attention")


def test_a_run_that_goes_on_lists_the_photographs_of_its_first_part_too(tmp_path):
    with pytest.raises(KeyboardInterrupt), NickingReport(tmp_path / "r.html", header()) as report:
        report.add_photograph(1, FOUR, PHOTOGRAPH, 4 * [card()])
        position = report.position
        raise KeyboardInterrupt
    with NickingReport(tmp_path / "r.html", header(), position) as report:
        report.recount([one.as_row() for one in FOUR])
        report.add_photograph(2, [crossing(1, 2)], PHOTOGRAPH, [card()])
    page = Drawn((tmp_path / "r.html").read_text())
    rows = [attrs["href"] for attrs in page.all("a") if attrs["href"].startswith("#photograph-")]
    assert rows == 2 * ["#photograph-1"] + 2 * ["#photograph-2"] and page.open == []


def test_the_page_can_be_sorted_by_worst_grade_and_shows_all_without_a_script(tmp_path):
    page = photographs(tmp_path / "r.html", [[crossing(1, 0)], FOUR, [REFUSED], [crossing(1)]])
    sheets = classed(page, "sheet")
    assert [one["data-number"] for one in sheets] == ["1", "2", "3", "4"]
    assert [one.get("data-worst") for one in sheets] == ["0", "3", None, None]
    orders = {attrs["data-order"]: attrs["aria-pressed"] for attrs in page.all("button") if "data-order" in attrs}
    assert orders == {"given": "true", "worst": "false"}
    (tools,) = [attrs for _, attrs in page.tags if attrs.get("id") == "tools"]
    assert "hidden" in tools, "buttons that need the script are shown by the script"
    assert [attrs["data-show"] for _, attrs in page.tags if attrs.get("id") == "findings"] == ["all"]
    graded = patches(
        tmp_path / "p.html", [(PatchFinding("p.png", Status.OK, "", 0.4, -0.1, (0.1, 0.2, 0.6, 0.1), 2), card())]
    )
    assert classed(graded, "sheet")[0]["data-worst"] == "2" and "#patch-1" in graded.source


def test_boxes_lie_on_the_photograph_and_lead_to_cards(tmp_path):
    page = photographs(tmp_path / "report.html", [FOUR])
    links = [attrs["href"] for attrs in page.all("a") if attrs["href"].startswith("#crossing-1-")]
    assert links == 2 * [f"#crossing-1-{n}" for n in range(1, 5)]  # from the boxes, and from the table


def test_an_eye_is_summed_up_in_a_line(tmp_path):
    eye = summarise_eye([*FOUR, crossing(5, 0, artery_width_px=3.0, vein_width_px=6.0)])
    assert eye["by_grade"] == [2, 0, 1, 1] and eye["worst"] == 3 and eye["ungraded"] == 1 and eye["crossings"] == 5
    assert eye["crossing_calibre_ratio"] == pytest.approx(6 / 9) and eye["measured"] == 5
    line = photographs(tmp_path / "report.html", [FOUR]).text(".line")
    assert "4 crossings" in line and "grade 3 severe, both sides" in line and "0.67 (4 measured)" in line
    assert "not graded – 1 not graded" in line


def test_the_ratio_is_of_medians_and_of_what_was_measured_only():
    widths = [(4.0, 8.0), (5.0, 10.0), (9.0, 9.0)]
    crossings = [crossing(k, 0, artery_width_px=a, vein_width_px=v) for k, (a, v) in enumerate(widths, 1)]
    assert summarise_eye(crossings)["crossing_calibre_ratio"] == pytest.approx(5 / 9)
    unknown = replace(crossings[0], narrowing_1=None, narrowing_2=None, vein_width_px=None)
    assert summarise_eye([unknown, *crossings[1:]])["measured"] == 2
    assert summarise_eye([unknown])["crossing_calibre_ratio"] is None and summarise_eye([])["worst"] is None


def test_tiles_and_foot_count_all_pages(tmp_path):
    page = photographs(tmp_path / "report.html", [FOUR, [REFUSED], [FAILED], FOUR])
    tiles = page.text(".tiles")
    for words in ("photographs4", "crossings found8", "of grade 2 or 34", "crossings not graded2", "readable2"):
        assert words in tiles
    assert (
        "4 photographs, 8 crossings: 2 of grade 0, 0 of grade 1, 2 of grade 2, 2 of grade 3, 2 not graded"
        in page.text("footer")
    )


def test_what_was_only_measured_says_so_once_and_claims_no_grades(tmp_path):
    note = "measured, not graded"
    plain = [crossing(k, probabilities=None) for k in (1, 2)]
    with NickingReport(tmp_path / "report.html", header(note=note)) as report:
        report.add_photograph(1, [replace(one, reason=note) for one in plain], PHOTOGRAPH, 2 * [card(attention=None)])
    page = Drawn((tmp_path / "report.html").read_text())
    assert page.source.count(note) == 1 and note in page.text(".alarm")
    assert not classed(page, "chances") and not classed(page, "grades") and len(page.all("button")) == 0
    assert "of grade 2 or 3—" in page.text(".tiles") and len(page.all("img")) == 1 + 2 * 2
    assert "of grade" not in page.text("footer")
    assert_self_contained(page)


def test_a_patch_is_a_card_and_a_missing_one_a_row(tmp_path):
    told = PatchFinding("p.png", Status.OK, "", 0.4, -0.1, (0.1, 0.2, 0.6, 0.1), 2)
    unsure = replace(told, grade=None, reason="not sure")
    page = patches(tmp_path / "report.html", [(told, card()), (PatchFinding("q.png", Status.FAILED, "no such file"), None), (unsure, card(narrowing=None))])  # fmt: skip
    assert [one["id"] for one in classed(page, "sheet")] == ["patch-1", "patch-2", "patch-3"]
    assert "no such file" in page.text(".reason") and "not sure" in page.text(".reason")
    assert "No width measured" in page.text(".nopicture") and "upper" in page.text("svg")
    assert "3 patches: 0 of grade 0, 0 of grade 1, 1 of grade 2, 0 of grade 3, 1 not graded" in page.text("footer")
    assert_self_contained(page)
    assert_policy_fits(page)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_do_no_harm(tmp_path, name):
    page = photographs(
        tmp_path / "report.html", [[crossing(1, 2, file=name)], [replace(REFUSED, file=name, reason=name)]]
    )
    assert len(page.all("script")) == 1
    assert_self_contained(page)
    page = patches(tmp_path / "report.html", [(PatchFinding(name, Status.FAILED, name), None), (PatchFinding(name, Status.OK, name), card())])  # fmt: skip
    assert len(page.all("script")) == 1
    assert_self_contained(page)


# --- how it is written


def test_rows_are_in_the_file_before_it_is_closed(tmp_path):
    report = NickingReport(tmp_path / "report.html", header())
    for number in (1, 2):
        report.add_photograph(number, FOUR, PHOTOGRAPH, 4 * [card()])
    page = Drawn((tmp_path / "report.html").read_text())
    assert len(classed(page, "crossing")) == 8 and "Not finished" in page.text(".alarm")
    report.close()
    report.close()
    page = Drawn((tmp_path / "report.html").read_text())
    assert page.open == [] and "Not finished" not in page.text() and page.text(".tiles").count("8") == 1


def test_a_run_that_breaks_off_says_so(tmp_path):
    with pytest.raises(KeyboardInterrupt), NickingReport(tmp_path / "report.html", header()) as report:
        report.add_photograph(1, FOUR, PHOTOGRAPH, 4 * [card()])
        raise KeyboardInterrupt
    page = Drawn((tmp_path / "report.html").read_text())
    assert "stopped after 1 photograph" in page.text(".alarm") and page.open == []


def test_memory_does_not_grow_with_photographs(tmp_path):
    cards = 4 * [card()]
    with NickingReport(tmp_path / "report.html", header()) as report:
        report.add_photograph(1, FOUR, PHOTOGRAPH, cards)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(2, 22):
            report.add_photograph(number, FOUR, PHOTOGRAPH, cards)
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
    assert (tmp_path / "report.html").stat().st_size > 1_000_000, "the rows are too small to prove anything"
    assert grown < 50_000


def test_four_hundred_crossings_are_a_file_that_opens(tmp_path):
    path = tmp_path / "report.html"
    photographs(path, [FOUR])
    one = path.stat().st_size
    photographs(path, [FOUR, FOUR])
    assert (path.stat().st_size - one) / 4 * 400 < 30e6


def test_a_page_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"report\.html"):
        NickingReport(tmp_path / "file" / "report.html", header())


# --- the curve


def test_the_curve_shows_the_pinch_where_it_is():
    shown = draw_profile(narrowing(0.4, -0.1))
    left, right = shown["sides"]
    assert left["words"] == "40 % narrower" and right["words"] == "10 % wider"
    floor, level = shown["bottom"], shown["level"]
    assert (floor - left["beside"][1]) / (floor - level) == pytest.approx(0.6, abs=0.01)
    assert (floor - right["beside"][1]) / (floor - level) == pytest.approx(1.1, abs=0.01)
    assert left["beside"][0] < shown["middle"] < right["beside"][0]
    assert left["beside"][0] == pytest.approx(shown["artery"][0], abs=0.2), "a width is measured at the artery's wall"
    for side in shown["sides"]:
        away = [abs(x - shown["middle"]) for x, _ in side["points"]]
        assert away == sorted(away) and len(side["curves"]) == 1
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in side["points"])


def test_the_curve_is_broken_where_the_vein_was_not_seen():
    whole = narrowing()
    kept = (whole.profile.distance < 1) | (whole.profile.distance > 2.5)
    bins = VeinProfile(*(getattr(whole.profile, name)[kept] for name in VeinProfile.__dataclass_fields__))
    assert [len(side["curves"]) for side in draw_profile(replace(whole, profile=bins))["sides"]] == [2, 2]


def test_without_a_level_there_is_a_curve_and_no_number():
    whole = narrowing()
    near = whole.profile.distance < 1
    bins = VeinProfile(*(getattr(whole.profile, name)[near] for name in VeinProfile.__dataclass_fields__))
    shown = draw_profile(replace(whole, side_1=float("nan"), side_2=float("nan"), profile=bins))
    assert shown["level"] is None and [side["words"] for side in shown["sides"]] == 2 * ["not measured"]
    assert shown["sides"][0]["points"]
    blank = draw_profile(replace(whole, artery_width=float("nan"), vein_width=float("nan")))
    assert np.isfinite([*blank["artery"], *blank["sides"][0]["points"][0]]).all()
    nothing = VeinProfile(*(getattr(whole.profile, name)[:0] for name in VeinProfile.__dataclass_fields__))
    assert draw_profile(replace(whole, profile=nothing)) is None and draw_profile(None) is None


@pytest.mark.parametrize(
    ("value", "words", "number"),
    [(0.384, "38 % narrower", "38 %"), (-0.05, "5 % wider", "\N{MINUS SIGN}5 %"), (0.001, "as wide", "0 %"),
     (-0.001, "as wide", "0 %"), (None, "", ""), (float("nan"), "", "")],
)  # fmt: skip
def test_narrowing_in_words_and_as_a_number(value, words, number):
    assert percent(value) == words and signed(value) == number


# --- pictures


def test_each_box_has_its_grades_colour_and_surrounds_its_crossing():
    black = np.zeros((1000, 1000, 3), np.uint8)
    found = [crossing(k + 1, g, row=200.0 * k + 100, col=500.0) for k, g in enumerate([0, 1, 2, 3])]
    picture, boxes = draw_boxes(black, [*found, crossing(5, row=900.0, col=100.0)])
    assert picture.shape == black.shape and not black.any()
    for one, box, colour in zip(found, boxes, COLOURS, strict=False):
        x, y, width, height = box
        assert (x + width / 2, y + height / 2) == pytest.approx((one.col, one.row), abs=1)
        assert tuple(picture[y, x + width // 2]) == colour
    assert tuple(picture[boxes[4][1], boxes[4][0] + 5]) == UNGRADED


@pytest.mark.parametrize(
    ("shape", "size"), [((3000, 2000), (1000, 667)), ((400, 300), (800, 600)), ((900, 1000), (900, 1000))]
)
def test_a_photograph_is_shown_at_one_size_with_boxes_where_they_belong(shape, size):
    share = size[0] / shape[0]
    one = crossing(1, 2, row=shape[0] / 2, col=shape[1] / 4, vein_width_px=12 / share)
    picture, (box,) = draw_boxes(np.zeros((*shape, 3), np.uint8), [one])
    assert picture.shape[:2] == size and max(size) <= SIDE
    assert (box[0] + box[2] / 2, box[1] + box[3] / 2) == pytest.approx((size[1] / 4, size[0] / 2), abs=1.5)
    assert box[2] == 60


def test_numbers_of_crossings_that_lie_close_do_not_hide_each_other():
    near = [crossing(k, 0, row=300.0, col=300.0 + 4 * k) for k in (1, 2)]
    one, _ = draw_boxes(np.zeros((1000, 1000, 3), np.uint8), near[:1])
    two, _ = draw_boxes(np.zeros((1000, 1000, 3), np.uint8), near)
    tags = [(picture == COLOURS[0]).all(axis=2).sum() for picture in (one, two)]
    assert tags[1] > 1.5 * tags[0]


def test_a_box_at_the_edge_keeps_its_number_in_the_picture():
    for row, col in ((0.0, 0.0), (999.0, 999.0), (0.0, 999.0)):
        picture, _ = draw_boxes(np.zeros((1000, 1000, 3), np.uint8), [crossing(88, 1, row=row, col=col)])
        assert (picture == COLOURS[1]).all(axis=2).sum() > 150


def test_arteries_are_red_and_veins_blue():
    grey, maps = np.full((20, 30, 3), 100, np.uint8), np.zeros((20, 30, 3), np.uint8)
    maps[:, :10], maps[:, 10:20] = (255, 255, 0), (255, 0, 255)
    picture = draw_vessels(grey, maps)
    assert tuple(picture[5, 5]) == draw.ARTERY and tuple(picture[5, 15]) == draw.VEIN
    assert np.ptp(picture[5, 25].astype(int)) == 0 and 30 < picture[5, 25, 0] < 100


def test_attention_of_nothing_is_the_patch_itself():
    shown = card()
    np.testing.assert_array_equal(draw_attention(shown.pixels, np.zeros((16, 16), np.float32)), shown.pixels)
    assert (draw_attention(shown.pixels, 1e-6 * shown.attention) != shown.pixels).any()


def test_every_grade_has_a_word_and_a_colour():
    assert len(WORDS) == len(COLOURS) == 4 and len({*COLOURS, UNGRADED}) == 5
