"""Languages: catalogues that are whole and current, phrases said in either language, reports and due dates in Chinese."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fundoscope.guidelines import describe_worklist, make_worklist, read_guideline, read_infants
from fundoscope.guidelines.ages import parse_date
from fundoscope.imaging.quality import REASONS
from fundoscope.languages import (
    BOTH,
    LANGUAGES,
    Phrase,
    current_language,
    gettext,
    join,
    ngettext,
    phrase,
    speaking,
    translate_kept,
)  # fmt: skip
from fundoscope.nicking.grading.grades import CONTRADICTED
from fundoscope.reports.wording import describe_counts

ROOT = Path(__file__).parent.parent
CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def tool():
    """tools/languages.py as a module."""
    pytest.importorskip("babel", reason="the extra serve is not installed")
    spec = importlib.util.spec_from_file_location("languages_tool", ROOT / "tools" / "languages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_compiled_catalogue_is_made_of_the_one_that_is_read(tool):
    for language in tool.TRANSLATED:
        catalogue = tool.read_catalogue(language)
        assert tool.catalogue_path(language).with_suffix(".mo").read_bytes() == tool.as_mo(catalogue), "make languages"
        assert tool.catalogue_path(language).read_bytes() == tool.as_po(catalogue)


def test_every_text_is_translated_with_its_placeholders(tool):
    texts = tool.gather()
    assert len(texts) > 600
    for language in tool.TRANSLATED:
        known = tool.read_catalogue(language)
        assert {m.id for m in known if m.id} == {m.id for m in texts if m.id}, "run make languages, then translate"
        assert list(tool.find_faults(known)) == []


def test_faults_of_a_catalogue_are_found(tool):
    catalogue = tool.Catalog(locale="zh")
    catalogue.add("left {n:.1f}", "{n}")
    catalogue.add("new", "")
    catalogue.add("sure", "也许", flags=("fuzzy",))
    catalogue.add(("{n} eye", "{n} eyes"), ("{n} 只眼",))
    assert [fault.split(":")[0] for fault in tool.find_faults(catalogue)] == [
        "other placeholders than the text", "not translated", "fuzzy",
    ]  # fmt: skip


def test_a_language_is_spoken_within_its_block_only():
    assert (gettext("Worklist"), current_language()) == ("Worklist", "en")
    with speaking("zh"):
        assert gettext("Worklist") == "工作列表" and gettext("") == ""
        assert ngettext("{n} photograph", "{n} photographs", 1) == "{n} 张照片" == ngettext("{n} photograph", "x", 5)
        with speaking("xx"):
            assert gettext("Worklist") == "Worklist"
    assert set(LANGUAGES) == {"en", "zh"}


def test_a_phrase_is_said_in_either_language_and_kept_as_json():
    told = phrase("{eye}, exam of {day}{at}: {findings}", eye=phrase("Right eye"), day="2024-03-01", at=Phrase(""),
                  findings=join([phrase("zone {zone}", zone="II"), phrase("stage {stage}", stage=2)]))  # fmt: skip
    assert str(told) == "Right eye, exam of 2024-03-01: zone II, stage 2"
    with speaking("zh"):
        assert told.spoken() == "右眼，2024-03-01 检查：II区、2期" and str(told).startswith("Right eye")
        assert Phrase.from_json(told.as_json()).spoken() == told.spoken()
        assert join(["zone", "plus"], BOTH).spoken() == "zone和plus"


def test_reasons_that_stand_in_answers_are_translated_where_they_are_shown():
    reason = REASONS["too_small"].format(diameter=87.4) + " " + REASONS["too_dark"]
    assert translate_kept(reason) == reason
    with speaking("zh"):
        said = translate_kept(reason)
        assert "87 像素" in said and not re.search("[a-z]", said)
        assert translate_kept(CONTRADICTED.format(2, "0 or 1")).startswith("网络与测得的宽度互相矛盾：判为2级")
        assert translate_kept("the two dogs") == "the two dogs" and translate_kept("") == ""
        for message in REASONS.values():
            assert CHINESE.search(translate_kept(message.format(diameter=1.0, fields="two"))), message


def test_counts_read_well_in_both_languages():
    assert describe_counts(11, 3, 1, 2) == (
        "Of 14 photographs, 11 were graded: ROP is suspected in 3; in 8 none was seen, which excludes nothing; "
        "1 was refused and 2 could not be read."
    )
    with speaking("zh"):
        assert describe_counts(11, 3, 1, 2) == (
            "共 14 张照片，其中 11 张已分级：3 张疑似ROP；8 张未见ROP，但不能据此排除；1 张被拒评，2 张无法读取。"
        )


def test_due_dates_are_told_in_chinese_and_json_stays():
    day = parse_date("2024-03-05", "", "")
    answers = make_worklist(read_infants(ROOT / "tests/due_infants.csv", day), read_guideline("china-2014"), day)
    english = [answer.as_row() for answer in answers]
    with speaking("zh"):
        told = describe_worklist(answers)
        assert [answer.as_row() for answer in answers] == english
    assert "最迟 2024-03-04 治疗，逾期 1 天" in told
    words = set(re.findall("[a-z]{4,}", told))
    assert words <= {
        "china", "zone", "stage", "plus", "birth", "date", "regressing", "treatment", "screening", "first", "exam", "stop",
        "regressed", "vascularised", "https", "full", "weeks", "gestational", "weight", "type", "etrop", "next",
    } | source_words(answers), words  # fmt: skip


def source_words(answers):
    """Words of names of rules and of citations, which stay as they are."""
    rules = [answer.rule for answer in answers if answer.rule]
    return {word for rule in rules for word in re.findall("[a-z]{4,}", f"{rule.source} {rule.rule}")}


def test_an_unknown_language_is_refused():
    call = [sys.executable, "-c", "from fundoscope.cli.main import run; run()", "rop", "due", "x.csv", "--lang", "cn"]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 2 and "--lang cn: there is no such language" in done.stderr
