import pytest

from fundoscope.errors import UsageError
from fundoscope.nicking.recipes.grades import GRADE_RECIPE_NAMES, read_grade_recipe


def test_each_shipped_recipe_is_whole_and_called_as_its_file():
    assert [read_grade_recipe(name).name for name in GRADE_RECIPE_NAMES] == list(GRADE_RECIPE_NAMES)


def test_a_file_of_ones_own_changes_what_it_says_and_keeps_the_rest_of_its_base(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "grades_tiny"\nname = "mine"\n[views]\nshift = 0.1\n')
    mine, tiny = read_grade_recipe(path), read_grade_recipe("tiny")
    assert (mine.name, mine.views.shift) == ("mine", 0.1)
    assert mine.views.model_copy(update={"shift": tiny.views.shift}) == tiny.views and mine.fit == tiny.fit
    assert (read_grade_recipe(path, 7).fit.epochs, read_grade_recipe(path, 7).fit.patience) == (7, 7)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            'base = "grades_tiny"\n[fit]\nepoch = 3\n',
            r"no key 'fit.epoch': did you mean 'epochs'.*Correct or remove it",
        ),
        ('base = "grades_tiny"\n[views.camera]\nlite = 3\n', r"no key 'views.camera.lite': did you mean 'light'"),
        ('base = "grades_tiny"\n[fit]\nepochs = 0\n', r"fit.epochs: .*greater than 0 \(it says 0\). Correct this key"),
        ('name = "mine"\n', r"network: Field required. Correct this key"),
        ('base = "grades_tin"\n', r"no recipe 'grades_tin': did you mean 'grades_tiny'"),
        ("name =\n", r"is not TOML .*Correct the line"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_the_key_and_what_to_do(tmp_path, text, words):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"mine\.toml: .*{words}"):
        read_grade_recipe(path)


def test_an_unknown_name_and_a_missing_file_say_what_to_give(tmp_path):
    with pytest.raises(UsageError, match="no recipe 'tinny': did you mean 'tiny'.*ends in .toml"):
        read_grade_recipe("tinny")
    with pytest.raises(UsageError, match="none.toml: cannot be read .*Give the path of a recipe file"):
        read_grade_recipe(tmp_path / "none.toml")
