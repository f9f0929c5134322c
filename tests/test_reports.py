import base64
import hashlib
import re
import subprocess
import sys
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fundoscope import reports
from fundoscope.errors import OutputError, UsageError
from fundoscope.findings import NOTHING_SEEN, RopFinding, Status
from fundoscope.reports import ReportedThreshold, ScreeningHeader, ScreeningReport, page, save_pictures
from fundoscope.reports.pictures import save_jpegs
from fundoscope.reports.screening import draw_photograph
from fundoscope.reports.study import (
    Check,
    EstimateCell,
    Picture,
    ReportFigure,
    Section,
    StudyPage,
    Table,
    write_study_report,
)
from fundoscope.reports.wording import SUSPECTED, TREATMENT_SUSPECTED

VOID = {"meta", "img", "br", "hr", "link", "input"}
LEAVES = {"rect", "circle", "polygon"}  # of SVG, closed in themselves
HOSTILE = [
    "<script>alert(1)</script>.png",
    "a\nb.png",
    '"><img src=x onerror=alert(1)>',
    "übel 眼.png",
    "\u202egpj.exe",
    "{{7*7}}",
]


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.source, self.open, self.tags, self.words = text, [], [], {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        assert tag in VOID | LEAVES
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        for tag, attrs in self.open:
            for key in (tag, *("." + name for name in (attrs.get("class") or "").split())):
                self.words.setdefault(key, []).append(data)

    def text(self, key: str = "body") -> str:
        return " ".join("".join(self.words.get(key, [])).split())

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]


def header(**changes) -> ScreeningHeader:
    values = {
        "bundle": "rop-lite",
        "version": "1",
        "trained_on": "98 RetCam photographs",
        "never_tested_on": "other hospitals",
        "operating_point": ReportedThreshold(0.4, "sensitivity 0.95", "inner folds"),
        "temperature": 1.3,
        "date": "2026-11-21",
    }
    return ScreeningHeader(**values | changes)


def finding(file="a.png", p=0.9, **changes) -> RopFinding:
    values = {"status": Status.OK, "p_rop": p, "rop": p >= 0.4, "quality": 0.8, "seconds": 0.1}
    return RopFinding(file, **values | changes)


REFUSED = RopFinding("blurred.png", Status.REJECTED, "too blurred", quality=0.1)
FAILED = RopFinding("cut.png", Status.FAILED, "cut short")
PICTURE = np.random.default_rng(0).integers(20, 200, (64, 64, 3)).astype(np.uint8)
ACTIVATION = np.random.default_rng(1).normal(1, 2, (4, 4))


def screening(path: Path, findings, eyes=None, **changes) -> Page:
    with ScreeningReport(path, header(**changes)) as report:
        for number, one in enumerate(findings, 1):
            shown = one.status is not Status.FAILED
            activation = ACTIVATION if one.status is Status.OK else None
            report.add(number, one, draw_photograph(PICTURE if shown else None, activation), (480, 640))
        if eyes:
            report.add_eyes(eyes)
    return Page(path.read_text(encoding="utf-8"))


def rows_of(page: Page) -> list[dict]:
    return [attrs for attrs in page.all("li") if "finding" in (attrs.get("class") or "").split()]


def assert_self_contained(page: Page) -> None:
    assert page.open == [], "a tag is left open"
    assert page.source.startswith("<!doctype html>")
    assert not re.search(r"https?:|url\(|@import|src=\"(?!data:)", page.source)
    assert page.all("html") == [{"lang": "en"}]
    assert not page.all("link")
    assert all(attrs["src"].startswith("data:image/") and attrs["alt"] for attrs in page.all("img"))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = [attrs["href"][1:] for attrs in page.all("a")] + [
        a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a
    ]
    assert set(targets) <= set(ids)


def assert_policy_fits(page: Page) -> None:
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for tag in ("style", "script"):
        for text in re.findall(rf"<{tag}>(.*?)</{tag}>", page.source, re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy


def test_every_photograph_has_its_row_whatever_its_end(tmp_path):
    answer = screening(tmp_path / "report.html", [finding(), finding("b.png", 0.1), REFUSED, FAILED, finding()])
    assert [row["class"].split()[1] for row in rows_of(answer)] == [
        "suspected",
        "unseen",
        "refused",
        "failed",
        "suspected",
    ]
    assert [row["data-number"] for row in rows_of(answer)] == list("12345")
    assert [row.get("data-p") for row in rows_of(answer)] == ["0.900000", "0.100000", None, None, "0.900000"]
    assert len(answer.all("img")) == 1 + 2 + 2 + 1 + 0 + 2  # the legend, then photograph and overlay
    assert_self_contained(answer)
    assert_policy_fits(answer)


def test_words_of_each_end(tmp_path):
    answer = screening(tmp_path / "report.html", [finding(), finding("b.png", 0.1), REFUSED, FAILED])
    decisions = answer.text(".decision")
    assert SUSPECTED in decisions and NOTHING_SEEN in decisions
    assert "too blurred" in answer.text(".reason") and "cut short" in answer.text(".reason")
    assert "no negative result" in answer.text(".advice") and "Nothing is known of this eye" in answer.text(".advice")


def test_a_negative_is_never_a_bare_no(tmp_path):
    eyes = [
        {"infant": "A", "eye": "left", "rop": "no", "decision": "no"},
        {"infant": "B", "eye": "", "rop": None, "decision": ""},
    ]
    answer = screening(tmp_path / "report.html", [finding(p=0.1)], eyes=eyes)
    assert answer.text(".decision") == NOTHING_SEEN
    assert NOTHING_SEEN in answer.text("td") and "not graded" in answer.text("td")
    assert not re.search(r"\b(normal|healthy|negative finding)\b", answer.text(), re.IGNORECASE)
    assert not any("".join(words).strip().lower() in ("no", "negative", "normal") for words in answer.words.values())


def test_summary_stands_at_the_top_and_again_at_the_foot(tmp_path):
    answer = screening(tmp_path / "report.html", [finding()] * 3 + [finding(p=0.1)] * 2 + [REFUSED, FAILED])
    assert answer.text(".tiles") == (
        f"photographs7 ROP suspected3 {NOTHING_SEEN}2 refused, not graded1 could not be read1"
    )
    headline = (
        "Of 7 photographs, 5 were graded: ROP is suspected in 3; in 2 none was seen, which excludes nothing; "
        "1 was refused and 1 could not be read."
    )
    assert answer.text(".headline") == headline and headline in answer.text("footer")
    assert answer.source.index('class="tiles"') < answer.source.index('class="findings"')
    assert "Not finished" not in answer.text()


def test_results_stand_before_photographs_and_explanation_is_folded(tmp_path):
    """Without scripts, too: what is written last has the lowest order in the style sheet."""
    eyes = [{"infant": "A", "views": 1, "rop": rop, "decision": "in words"} for rop in ("no", None, "yes")]
    answer = screening(tmp_path / "report.html", [finding(), REFUSED], eyes=eyes)
    order = dict(re.findall(r"\.results-first > \.(\w+) \{ order: (-\d)", answer.source))
    assert sorted(order, key=lambda part: int(order[part])) == ["masthead", "summary", "skipped", "attention", "eyes"]
    assert answer.all("main") == [{"class": "results-first"}]
    (fold,) = answer.all("details")
    assert "open" not in fold and "How to read this page" in answer.text("details")
    assert "98 RetCam photographs" in answer.text("details") and "98 RetCam" not in answer.text(".summary")
    eyes = answer.source[answer.source.index('id="eyes"') : answer.source.index('id="attention"')]
    assert re.findall(r'<tr class="(\w+)">', eyes) == ["suspected", "refused", "unseen"]
    assert re.findall(r"<th [^>]*>(.*?)</th>", eyes) == ["infant", "taken together", "views"]


def test_the_table_at_the_top_lists_what_needs_attention_the_gravest_first(tmp_path):
    treat = finding("t.png", 0.5, p_tr=0.9, treatment_requiring=True)
    found = [FAILED, finding("b.png", 0.1), finding("low.png", 0.45), REFUSED, finding("high.png", 0.99), treat]
    answer = screening(tmp_path / "report.html", found, second_stage=True, simulated=True)
    listed = re.findall(r"[a-z]+\.png", answer.text(".attention"))
    assert listed == ["t.png", "high.png", "low.png", "cut.png", "blurred.png"]  # and not b.png
    assert "Treatment-requiring ROP suspected" in answer.text(".attention")
    assert "too blurred" in answer.text(".attention") and "no negative result" in answer.text(".attention")
    assert [link["href"] for link in answer.all("a") if "file" in link.get("class", "")] == [
        "#photograph-6", "#photograph-5", "#photograph-3", "#photograph-1", "#photograph-4"]  # fmt: skip
    nothing = screening(tmp_path / "b.html", [finding("b.png", 0.1)])
    assert not nothing.text(".attention") and "attention" not in nothing.text(".summary")


def test_a_page_that_goes_on_lists_what_was_there_and_says_how_many_it_leaves_out(tmp_path):
    shown = [finding(f"{n}.png", 0.5 + n / 1000) for n in range(150)]
    report = ScreeningReport(tmp_path / "report.html", header())
    for number, one in enumerate(shown[:100], 1):
        report.add(number, one)
    again = ScreeningReport(tmp_path / "report.html", header(), report.position)
    for one in shown[:100]:
        again.recount(one.as_row())
    for number, one in enumerate(shown[100:], 101):
        again.add(number, one)
    again.close()
    answer = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert re.findall(r'#photograph-\d+"><bdi>(.*?)</bdi>', answer.source) == [f"{n}.png" for n in range(149, 49, -1)]
    assert "The 100 gravest of 150; all are marked in the list" in answer.text(".attention")


def test_bundle_and_its_limits_are_named(tmp_path):
    text = screening(tmp_path / "report.html", [finding()]).text()
    for words in (
        "rop-lite",
        "98 RetCam photographs",
        "other hospitals",
        "sensitivity 0.95",
        "inner folds",
        "1.3",
        "2026-11-21",
    ):
        assert words in text
    assert "Research use only" in text and "SIMULATED" not in text.upper()


def test_simulated_is_said_on_screen_and_in_print(tmp_path):
    one = finding(p_tr=0.7, treatment_requiring=True)
    hidden = screening(tmp_path / "a.html", [one])
    assert "reatment-requiring" not in hidden.text(".findings")
    shown = screening(tmp_path / "b.html", [one], simulated=True, second_stage=True)
    assert TREATMENT_SUSPECTED in shown.text(".findings") and "SIMULATED" in shown.text(".findings")
    assert "SIMULATED" in shown.text(".alarm") and "Simulated" in shown.text(".stamps")
    printed = re.search(r'@top-left\{content:"([^"]*)"', shown.source).group(1)
    assert re.sub(r"\\([0-9a-f]{6})", lambda code: chr(int(code[1], 16)), printed).split()[0] == "SIMULATED"


def test_a_probability_beside_the_threshold_is_told_apart(tmp_path):
    text = screening(tmp_path / "report.html", [finding(p=0.3996), finding(p=0.9999), finding(p=0.0001)]).text(".gauge")
    assert "0.3996 threshold 0.4000" in text
    assert "above 0.99" in text and "below 0.01" in text


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_and_do_nothing(tmp_path, name):
    eyes = [{"infant": name, "eye": name, "decision": name, name: name}]
    answer = screening(
        tmp_path / "report.html", [finding(name), finding(name, status=Status.REJECTED, reason=name)], eyes
    )
    assert answer.text("h3").count(" ".join(page.printable(name).split())) == 2
    assert len(answer.all("script")) == 1
    assert not any(key.startswith("on") for _, attrs in answer.tags for key in attrs)
    assert "\u202e" not in answer.source and "a\nb" not in answer.source
    assert_self_contained(answer)


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(), max_size=60))
def test_any_name_keeps_the_page_whole(tmp_path_factory, name):
    answer = screening(tmp_path_factory.mktemp("page") / "report.html", [finding(name, status=Status.FAILED)])
    assert " ".join(page.printable(name).split()) in answer.text("h3")
    assert len(rows_of(answer)) == 1 and len(answer.all("script")) == 1 and answer.open == []


def test_names_of_broken_encoding_are_spelled_out(tmp_path):
    answer = screening(tmp_path / "report.html", [finding("caf\udce9.png")])
    assert "caf\\udce9.png" in answer.text("h3")


def test_a_killed_run_leaves_a_page_that_reads(tmp_path):
    report = ScreeningReport(tmp_path / "report.html", header())
    for number in (1, 2, 3):
        report.add(number, finding())  # short rows: a buffer would swallow them
    answer = Page((tmp_path / "report.html").read_text(encoding="utf-8"))  # never closed: what a kill leaves
    assert len(rows_of(answer)) == 3
    assert "Not finished" in answer.text(".summary") and "Research use only" in answer.text()
    assert {tag for tag, _ in answer.open} == {"html", "body", "main", "ol"}
    report.close()


def test_an_error_in_the_run_is_said_on_the_page(tmp_path):
    with pytest.raises(KeyboardInterrupt), ScreeningReport(tmp_path / "report.html", header()) as report:
        report.add(1, finding())
        raise KeyboardInterrupt
    answer = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Not finished. The run was stopped after 1 photograph." in answer.text(".summary")
    assert answer.open == []


def test_close_may_come_twice_and_may_tell_of_a_broken_run(tmp_path):
    report = ScreeningReport(tmp_path / "report.html", header())
    report.close(whole=False)
    report.close()
    assert "Not finished" in (tmp_path / "report.html").read_text()


def test_memory_stays_flat(tmp_path):
    with ScreeningReport(tmp_path / "report.html", header()) as report:
        report.add(1, finding(), draw_photograph(PICTURE, ACTIVATION))
        tracemalloc.start()
        held = []
        for number in range(2, 302):
            report.add(number, finding(f"{number}.png"), draw_photograph(PICTURE, ACTIVATION))
            held.append(tracemalloc.get_traced_memory()[0])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (tmp_path / "report.html").stat().st_size > 1_000_000, "the rows are too small to prove anything"
    assert held[-1] - held[50] < 50_000
    assert peak < 1_000_000


def test_pictures_drawn_beforehand_are_those_of_the_page_and_of_the_files(tmp_path):
    drawn = draw_photograph(PICTURE, np.full((4, 4), 3.0))
    assert list(drawn.files) == ["", "_activation"] and drawn.files[""] != drawn.files["_activation"]
    refused = draw_photograph(PICTURE)
    assert (refused.evidence, list(refused.files)) == ("", [""])
    with ScreeningReport(tmp_path / "report.html", header()) as report:
        report.add(1, finding(), drawn)
        report.add(2, REFUSED, refused)
        assert report.counts == reports.ScreeningCounts(suspected=1, refused=1)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert (text.count(drawn.photograph), text.count(drawn.evidence)) == (2, 1)
    assert save_jpegs(tmp_path, 1, "a", drawn.files) == save_pictures(tmp_path, 1, "a", PICTURE, PICTURE)


def test_eyes_say_a_common_rule_once_and_leave_out_blank_columns(tmp_path):
    eyes = [
        {
            "infant": "A",
            "eye": side,
            "exam": "",
            "views_graded": 2,
            "rop": rop,
            "decision": words,
            "rule": "any view",
        }
        for side, rop, words in (("left", "yes", "ROP suspected"), ("right", "no", NOTHING_SEEN))
    ]
    answer = screening(tmp_path / "report.html", [finding(p=0.1)], eyes=eyes)
    assert answer.text("thead") == "infanteyetaken togetherviews graded"
    assert answer.text(".eyes").count("any view") == 1
    assert [attrs["class"] for attrs in answer.all("tr") if "class" in attrs] == ["suspected", "unseen"]
    assert "Go to the 2 eyes" in answer.text(".summary")
    assert answer.source.index('id="eyes"') > answer.source.rindex("photograph-1")


def test_a_page_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/report\.html"):
        ScreeningReport(tmp_path / "file" / "report.html", header())
    with pytest.raises(OutputError, match="file"):
        save_pictures(tmp_path / "file", 1, "a", PICTURE)


@pytest.mark.parametrize("stem", [*HOSTILE, "../../etc/passwd", "a/b\\c", "", "x" * 500, "...", "CON", "\udce9"])
def test_pictures_have_safe_names(tmp_path, stem):
    first, second = save_pictures(tmp_path / "pictures", 7, stem, PICTURE, PICTURE)
    assert re.fullmatch(r"0007_[A-Za-z0-9_-]{1,80}\.jpg", first.name)
    assert second.name == first.stem + "_activation.jpg"
    assert first.resolve().parent == tmp_path / "pictures"
    assert cv2.imread(str(second)).shape == PICTURE.shape


def test_accents_are_folded_and_one_picture_makes_one_file(tmp_path):
    assert [path.name for path in save_pictures(tmp_path, 12, "Frühchen 3", PICTURE)] == ["0012_Fruhchen_3.jpg"]


# the report of a study


def study(tmp_path: Path, **changes) -> StudyPage:
    cv2.imwrite(str(tmp_path / "roc.png"), PICTURE)
    rows = [
        {"grader": "ours", "AUC": EstimateCell(0.95, 0.9, 0.98, 98), "Brier": 0.0881, "seeds": 3},
        {"grader": "nuisance", "AUC": EstimateCell(0.79, 0.69, 0.88, 98), "Brier": None, "seeds": 1},
    ]
    sections = [
        Section("Results", ["Beside <b>baselines</b>."], tables=[Table(rows, "Out-of-fold", "95 %", 0.5, (0,))]),
        Section("Figures", figures=[ReportFigure(tmp_path / "roc.png", "ROC of five folds")]),
        Section("Checks", {}, checks=[Check("tested once", True, "98 of 98"), Check("no leak", False)]),
        Section("Errors", facts={"worst": 1}, pictures=[Picture(PICTURE, HOSTILE[0], ("given 0.03",))]),
    ]
    values = {
        "title": "A study",
        "stamps": ["Images assumed independent"],
        "facts": {"seeds": [0, 1]},
        "commands": ["fundoscope rop study"],
    }
    return StudyPage(**{**values, "sections": sections, **changes})


def written(tmp_path: Path, **changes) -> Page:
    write_study_report(tmp_path / "report.html", study(tmp_path, **changes))
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_a_study_shows_all_its_parts(tmp_path):
    answer = written(tmp_path)
    assert_self_contained(answer)
    assert_policy_fits(answer)
    text = answer.text()
    for words in (
        "A study",
        "0, 1",
        "fundoscope rop study",
        "<b>baselines</b>",
        "0.950",
        "0.900 to 0.980, n = 98",
        "0.088",
        "—",
        "3",
    ):
        assert words in text
    for words in (
        "ROC of five folds",
        "Holds tested once",
        "Does not hold no leak",
        HOSTILE[0],
        "given 0.03",
    ):
        assert words in text
    assert len(answer.all("img")) == 2 and len(answer.all("svg")) == 2 and not answer.all("script")
    assert list(tmp_path.glob("*.part")) == []


def test_stamps_of_a_study_stand_on_every_printed_page(tmp_path):
    answer = written(tmp_path, stamps=['Simulated "}</style>'])
    assert answer.text(".stamps") == 'Simulated "}</style> Research use only'
    assert answer.source.count("</style>") == 1
    assert_policy_fits(answer)


def test_whiskers_of_a_column_share_one_axis(tmp_path):
    answer = written(tmp_path)
    ours, theirs = (float(attrs["cx"]) for attrs in answer.all("circle"))
    low, high = 0.5, 0.98  # from the reference line to the highest end
    assert ours == pytest.approx(4 + 92 * (0.95 - low) / (high - low), abs=0.06)
    assert theirs == pytest.approx(4 + 92 * (0.79 - low) / (high - low), abs=0.06)
    bars = [attrs for attrs in answer.all("rect") if attrs["class"] == "interval"]
    assert all(
        float(bar["x"]) < at < float(bar["x"]) + float(bar["width"])
        for bar, at in zip(bars, (ours, theirs), strict=True)
    )


def test_odd_cells_are_put_into_words(tmp_path):
    rows = [
        {
            "a": float("nan"),
            "b": True,
            "c": 1e-5,
            "d": -0.25,
            "e": EstimateCell(0.5),
            "f": EstimateCell(0.5, float("nan"), 1.0, 4),
        }
    ]
    answer = written(tmp_path, sections=[Section("Odd", tables=[Table(rows), Table([])])])
    cells = " ".join(" ".join(answer.words["td"]).split())
    assert cells == "not defined yes 1.0e-05 −0.250 0.500 0.500 n = 4"


def test_a_missing_figure_is_named_and_the_old_report_stays(tmp_path):
    written(tmp_path)
    before = (tmp_path / "report.html").read_bytes()
    (tmp_path / "text.png").write_text("no picture")
    for name in ("absent.png", "text.png"):
        with pytest.raises(UsageError, match=name):
            written(tmp_path, sections=[Section("x", figures=[ReportFigure(tmp_path / name, "y")])])
    assert (tmp_path / "report.html").read_bytes() == before


# what both share


def test_contrast_meets_wcag_aa_in_light_and_dark():
    def luminance(colour: str) -> float:
        channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        dark, light = sorted((luminance(one), luminance(other)))
        return (light + 0.05) / (dark + 0.05)

    blocks = re.findall(r":root \{(.*?)\}", page.resource("style.css"), re.DOTALL)
    light, dark = (dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block)) for block in blocks[:2])
    for colours in (light, light | dark):
        for paper in ("ground", "sheet", "faint", "suspect-sheet", "unsure-sheet"):
            for ink in ("ink", "soft"):
                assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)
        for ink in ("accent", "suspect", "unsure", "good"):
            assert min(contrast(colours[ink], colours[paper]) for paper in ("ground", "sheet")) >= 4.5, ink


def test_screening_reports_load_nothing_heavy():
    heavy = ["torch", "timm", "lightning", "matplotlib", "pandas", "scipy", "skimage", "sklearn"]
    code = f"import sys, fundoscope.reports.screening; print(sorted(set({heavy}) & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
