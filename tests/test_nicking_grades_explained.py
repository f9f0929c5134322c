"""Where the networks of a study look: flanks, class activation under change, the deletion test, resamples."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")

from fundoscope.networks.nick_grader import GraderOptions, NickGrader, rotate_half_turn
from fundoscope.nicking.grade_study.class_activation import (
    blank_input,
    class_activations,
    input_changes,
    share_that_stays,
    stays_beside,
    stays_under_moves,
)
from fundoscope.nicking.grade_study.deletion import deleted_places, measure_falls
from fundoscope.nicking.grade_study.explain import (
    FlankActivation,
    activation_maps,
    colour_maps,
    draw_activation,
    measure_activation,
    venous_flanks,
)
from fundoscope.nicking.grade_study.perturbed import change_colour
from fundoscope.nicking.grade_study.prediction_table import COLOUR_CHANGES
from fundoscope.nicking.grade_study.resampling import Resamples
from fundoscope.nicking.grading.crossing_patches import INPUT_ZOOM, PATCH_SIDE, VEIN_WIDTH
from fundoscope.nicking.recipes.grades import read_grade_recipe

RECIPE = read_grade_recipe("tiny")
EXPLANATION, DELETION = RECIPE.explanation, RECIPE.deletion


@pytest.fixture(scope="module")
def grader():
    torch.manual_seed(0)
    return NickGrader(GraderOptions(body="resnet10t", pretrained=False, pyramid="none", maps=8, excited=False)).eval()


def crossing():
    """Maps (3, s, s) of a level artery and an upright vein."""
    maps = np.full((3, PATCH_SIDE, PATCH_SIDE), -1, np.float32)
    maps[:2, 59:69] = 1
    maps[:, :, 59:69] = np.array([1, -1, 1])[:, None, None]
    return maps


# --- flanks


def test_flanks_are_the_vein_beside_the_artery():
    there = venous_flanks(crossing(), EXPLANATION)
    rows, columns = np.nonzero(there)
    assert (np.abs(columns - (PATCH_SIDE - 1) / 2) < 10).all()
    assert np.abs(rows - (PATCH_SIDE - 1) / 2).max() < 2.5 * INPUT_ZOOM * VEIN_WIDTH + 4
    assert there[64 - 20, 64] and there[64 + 20, 64] and not there[64, 64] and not there[64, 64 + 20]


def test_activation_on_the_flanks_is_measured_as_such_and_elsewhere_not():
    maps, flanks = crossing(), venous_flanks(crossing(), EXPLANATION)

    def measure(activation, maps=maps):
        return measure_activation(activation.astype(np.float32), maps, EXPLANATION)

    assert measure(flanks) == FlankActivation(pytest.approx(1), pytest.approx(flanks.mean()))
    assert measure(3 * flanks) == measure(flanks)
    everywhere = measure(np.ones((PATCH_SIDE, PATCH_SIDE)))
    assert everywhere.mass == pytest.approx(everywhere.area)
    assert measure(~flanks).mass == 0
    assert measure(np.zeros((PATCH_SIDE, PATCH_SIDE))) is None
    assert measure(flanks, np.full_like(maps, -1)) is None


def test_pictures_show_contrast_maps_and_activation_beside_each_other():
    maps = crossing()
    x = np.concatenate([np.zeros_like(maps), maps])
    streams = np.stack([venous_flanks(maps, EXPLANATION), np.zeros((PATCH_SIDE, PATCH_SIDE))]).astype(np.float32)
    shown = draw_activation(x, streams)
    assert shown.shape == (PATCH_SIDE, 4 * PATCH_SIDE, 3) and (shown[:, :PATCH_SIDE] == 127).all()
    coloured = colour_maps(maps)
    assert coloured[64, 10].tolist() == [255, 63, 63] and coloured[10, 64].tolist() == [63, 63, 255]
    assert (shown[44, 2 * PATCH_SIDE + 64] != 127).any()


# --- class activation


def test_activations_of_the_grades_weighed_by_the_grades_are_that_of_the_mean_grade(grader):
    x = torch.randn(2, 6, 64, 64)
    each = class_activations(grader, x)
    assert each.shape == (2, 4, 2, 64, 64) and (each >= 0).all()
    kept, expected, grades = grader.head.weight.detach().clone(), activation_maps(grader, x), torch.arange(4.0)
    with torch.no_grad():
        grader.head.weight[3] = (grades - grades.mean()) @ kept  # what activation_maps weighs by, as one logit
        alone = class_activations(grader, x)[:, 3]
        grader.head.weight.copy_(kept)
    np.testing.assert_allclose(alone.numpy(), expected, rtol=1e-3, atol=1e-5 * float(alone.max()))


def test_the_share_that_stays_is_one_for_the_same_map_and_half_for_one_moved_by_half_its_width():
    plane = torch.zeros(1, 8, 8)
    plane[0, 2, 2:4] = 3.0
    moved = plane.roll(1, dims=2)
    assert share_that_stays(plane, 7 * plane).item() == pytest.approx(1)
    assert share_that_stays(plane, moved).item() == pytest.approx(0.5)
    assert share_that_stays(plane, 0 * plane).isnan().all()


@pytest.mark.parametrize(("name", "off"), [("rotation", (8, -22)), ("translation", (22 + 8, 8))])
def test_moved_inputs_are_laid_back_where_they_were(name, off):
    change, undo = input_changes(EXPLANATION)[name]
    x = blank_input(torch.zeros(1, 6, 128, 128))
    x[:, :, 62:66, 84:88] = 1.0  # 22 pixels to the right of the middle
    moved = change(x)
    row, column = (int(k) for k in np.argwhere(moved[0, 0].numpy() == moved[0, 0].max().item())[0] - 64)
    wanted = off if name == "translation" else (22 * np.cos(np.deg2rad(20)), abs(22 * np.sin(np.deg2rad(20))))
    assert (abs(column - wanted[0]), abs(abs(row) - abs(wanted[1]))) < (3, 3)
    assert moved[0, 4, 0, 0].item() == pytest.approx(-1) and moved[0, 0, 0, 0].item() == pytest.approx(0, abs=1e-6)
    back = undo(moved)[0, 0].numpy()
    assert (back * x[0, 0].numpy()).sum() / back.sum() > 0.8


def test_an_unchanged_patch_keeps_its_activation_and_one_laid_the_other_way_too(grader):
    maps = torch.from_numpy(crossing())[None]
    maps[:, :, :40] *= 0.5  # so that up and down differ
    x = torch.cat([torch.randn(1, 3, PATCH_SIDE, PATCH_SIDE), maps], dim=1)
    before, turned = class_activations(grader, x), rotate_half_turn(x)
    assert stays_beside(x, before, x.clone(), before).nan_to_num(1).allclose(torch.ones(1, 4, 2))
    after = class_activations(grader, turned)
    straight = share_that_stays(before, rotate_half_turn(after))
    torch.testing.assert_close(stays_beside(x, before, turned, after), straight, equal_nan=True)
    moves = stays_under_moves(grader, x, before, EXPLANATION)
    assert set(moves) == {"rotation", "translation"}
    assert all(((m >= 0) & (m <= 1 + 1e-5) | m.isnan()).all() for m in moves.values())


@pytest.mark.parametrize("streams", [1, 2])
def test_activation_is_measured_where_the_network_is(streams):
    options = GraderOptions(streams=streams, body="resnet10t", pretrained=False, pyramid="none", maps=8, excited=False)
    far = torch.device("meta")  # stands for a GPU: whatever was left on the processor cannot be mixed with it
    grader, x = NickGrader(options).eval().to(far), torch.zeros(3, 6, 128, 128, device=far)
    assert [each.device for each in grader.activation_maps(grader.stream_maps(x))] == [far] * streams
    before = class_activations(grader, x)
    stays = stays_under_moves(grader, x, before, EXPLANATION) | {"": stays_beside(x, before, x, before)}
    assert {(each.device, tuple(each.shape)) for each in stays.values()} == {(far, (3, 4, streams))}


# --- deletion


def test_places_of_equal_area_are_blanked_the_most_and_least_marked_and_others_on_vessels():
    activation, vessel = np.zeros((64, 64), np.float32), np.zeros((64, 64), bool)
    activation[:16, :32], vessel[40:44] = 1.0, True
    numbers = DELETION.model_copy(update={"area": 0.125, "places": 4})
    marked, least, *random = deleted_places(activation, vessel, numbers, np.random.default_rng(0))
    np.testing.assert_array_equal(marked, activation > 0)
    assert {int(place.sum()) for place in (marked, least, *random)} == {512} and len(random) == 4
    assert not (least & marked).any() and not any((place & marked).any() for place in random)
    assert all((place & vessel).any() for place in random) and len({place.tobytes() for place in random}) > 1


def test_blanking_what_a_network_looks_at_lowers_the_probability_and_elsewhere_not(grader):
    class Corner(torch.nn.Module):
        """Nicked where the upper left corner is bright."""

        def forward(self, x):
            bright = x[:, 0, :32, :32].mean(dim=(1, 2))
            return torch.stack([-bright, bright, bright, bright], dim=1)

        def probabilities(self, logits):
            return logits.softmax(dim=1)

    x = torch.full((2, 6, 128, 128), 2.0)
    activations = np.zeros((2, 128, 128), np.float32)
    activations[:, :40, :40] = 1.0
    falls = measure_falls(Corner(), x, activations, 1.0, DELETION, np.random.default_rng(0))
    assert (falls.before > 0.95).all() and (falls.marked > 0.15).all()
    assert (np.abs(falls.least) < 0.02).all() and (falls.elsewhere < falls.marked / 3).all()
    hot = measure_falls(Corner(), x, activations, 100.0, DELETION, np.random.default_rng(0))
    np.testing.assert_allclose(hot.before, 0.75, atol=0.02)


# --- colours


def test_colours_change_as_they_say_and_what_lies_beyond_the_field_stays_black():
    rng, numbers = np.random.default_rng(0), RECIPE.perturbed
    patch = rng.integers(40, 200, (32, 32, 3), dtype=np.uint8)
    patch[:8] = 3
    changed = {name: change_colour(patch, name, numbers).astype(float) for name in COLOUR_CHANGES}
    before, inside = patch.astype(float), np.s_[8:]
    assert all((each[:8] == 3).all() and np.abs(each - before)[inside].mean() > 3 for each in changed.values())
    np.testing.assert_allclose(changed["darker"][inside], 0.7 * before[inside], atol=0.51)
    deviations = [each[inside].std(axis=(0, 1)) for each in (changed["less contrast"], before)]
    np.testing.assert_allclose(deviations[0], 0.7 * deviations[1], rtol=0.02)
    spread = [np.ptp(each[inside], axis=2).mean() for each in (changed["less saturated"], before)]
    assert spread[0] == pytest.approx(0.5 * spread[1], rel=0.05)
    np.testing.assert_allclose(changed["another hue"].max(axis=2), before.max(axis=2), atol=1)


# --- resamples


def test_photographs_are_drawn_with_all_patches_of_the_crossings_that_are_drawn_in_them():
    photographs = np.repeat([f"p{k}" for k in range(10)], 6)
    crossings = np.repeat([f"c{k}" for k in range(20)], 3)
    drawn = Resamples.draw(photographs.tolist(), crossings.tolist(), replicates=4000)
    times = drawn.weights[1:]
    assert (drawn.weights[0] == 1).all()
    by_crossing = times.reshape(-1, 20, 3)
    assert (by_crossing == by_crossing[..., :1]).all(), "the patches of a crossing go together"
    of_photograph = by_crossing[..., 0].reshape(-1, 10, 2).sum(axis=2)
    assert (of_photograph.sum(axis=1) == 20).all() and (of_photograph % 2 == 0).all()
    assert times.mean() == pytest.approx(1, abs=0.01)
    # by the law of total variance a crossing's weight varies by that of its photograph (.9), and by 2 t draws of a half
    assert by_crossing[..., 0].var() == pytest.approx(0.9 + 0.5, rel=0.05)


def test_intervals_widen_with_what_differs_between_seeds_and_few_photographs_have_none():
    n = 40
    drawn = Resamples.draw([f"p{k // 2}" for k in range(n)], [str(k) for k in range(n)])
    positive = np.ones(n, bool)
    flat, apart = (np.tile([[low], [1 - low]], (1, 2001)) for low in (0.5, 0.2))
    same, differing = (drawn.estimate(drawn.mean_over_seeds(values), positive) for values in (flat, apart))
    assert (same.low, same.value, same.high) == (0.5, 0.5, 0.5)
    assert differing.value == pytest.approx(0.5) and (differing.low, differing.high) == (
        pytest.approx(0.2),
        pytest.approx(0.8),
    )
    few = drawn.estimate(flat[0], positive, np.arange(n) < 10)
    assert np.isnan(few.low) and (few.n, few.groups) == (10, 5)
    one_seed = np.array([[np.nan] * 2001, [0.3] * 2001])
    assert np.nanmean(drawn.mean_over_seeds(one_seed)) == pytest.approx(0.3), "a seed that is not drawn spoils nothing"
    assert replace(drawn).estimate(np.full(2001, np.nan), positive).n == n
