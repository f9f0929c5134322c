import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.spatial import KDTree
from skimage.morphology import skeletonize

from fundoscope.simulate import adult
from fundoscope.vessels import crossings_between, crossings_on, find_vessels, line_strength, tortuosity, vessel_graph
from fundoscope.vessels.graph import (
    Centreline,
    _trace,
    arc_length,
    branches_at,
    edge_paths,
    extend_branch,
    smooth_path,
    total_length,
)
from fundoscope.vessels.lines import without_specks


@pytest.fixture(scope="module")
def eye():
    return adult(3, camera="drive", level="good", grade=0)


def drawn(*lines, width=5.0, shape=(160, 160)):
    """Masks of polylines (row, column) by the distance of each pixel to them."""
    rows, columns = np.indices(shape)
    pixels = np.column_stack([rows.ravel(), columns.ravel()])
    dense = np.vstack([_dense(np.asarray(line, float)) for line in lines])
    return (KDTree(dense).query(pixels)[0] <= width / 2).reshape(shape)


def _dense(line):
    way = arc_length(line)
    at = np.arange(0, way[-1] + 1e-9, 0.2)
    return np.column_stack([np.interp(at, way, line[:, k]) for k in (0, 1)])


def ray(at, degrees, reach):
    turn = np.radians(degrees)
    return np.array([at, np.array(at) + reach * np.array([np.sin(turn), np.cos(turn)])])


def through(at, degrees, reach=65):
    return np.vstack([ray(at, degrees + 180, reach)[1], ray(at, degrees, reach)[1]])


def degrees_of(graph):
    return sorted(map(graph.degree, graph))


# lines


@given(angle=st.floats(0, 180), width=st.floats(2.5, 8), seed=st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_a_line_is_stronger_than_what_lies_beside_it(angle, width, seed):
    mask = drawn(through((60, 60), angle, 80), width=width, shape=(120, 120))
    noise = np.random.default_rng(seed).normal(0, 6, mask.shape)
    dark = cv2.GaussianBlur((100 + 30 * mask + noise).astype(np.float32), (0, 0), 0.8)
    strength = line_strength(dark, np.ones_like(mask))
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    assert np.percentile(strength[mask], 10) > np.percentile(strength[away > 4], 99)
    assert strength.mean() == pytest.approx(0, abs=1e-3)
    assert strength.std() == pytest.approx(1, abs=1e-3)


def test_the_dark_around_the_field_is_no_vessel():
    rows, columns = np.indices((140, 140))
    field, vessel = np.hypot(rows - 70, columns - 70) < 60, np.abs(rows - 70) < 2.5
    grain = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 6, field.shape), (0, 0), 1.0)
    dark = cv2.GaussianBlur(np.where(field, 100 + 25 * vessel + grain, 255).astype(np.float32), (0, 0), 0.8)
    strength = line_strength(dark, field)
    inner = cv2.erode(field.astype(np.uint8), np.ones((21, 21))).astype(bool)
    rim = field & ~inner & (np.abs(rows - 70) > 10)
    assert np.percentile(strength[rim], 95) < 0.5 * np.median(strength[inner & vessel])
    assert (strength[~field] < strength[field].min() + 1).all()


def test_vessels_of_a_simulated_eye_are_found(eye):
    found, field = find_vessels(eye.pixels), eye.truth.field
    mask = cv2.resize(found.mask.astype(np.uint8), field.shape[::-1], interpolation=cv2.INTER_NEAREST).astype(bool)
    true = eye.truth.vessel & field
    assert 2 * (mask & true).sum() / (mask.sum() + true.sum()) > 0.7
    assert mask[true].mean() > 5 * mask[field & ~true].mean()


def test_the_map_does_not_depend_on_the_size_of_the_photograph(eye):
    double = cv2.resize(eye.pixels, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    once, twice = find_vessels(eye.pixels), find_vessels(double)
    assert twice.scale == pytest.approx(2 * once.scale, rel=0.02)
    size = once.mask.shape[::-1]
    other = cv2.resize(twice.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
    assert 2 * (once.mask & other).sum() / (once.mask.sum() + other.sum()) > 0.85
    at = np.array([[10.0, 20.0]])
    np.testing.assert_allclose(twice.to_photograph(at), (at + 0.5) * twice.scale - 0.5)


# graph


@pytest.mark.parametrize("turn", [0, 17, 45, 63])
@pytest.mark.parametrize("width", [3, 6, 9])
def test_an_x_is_four_branches(turn, width):
    graph = vessel_graph(drawn(through((80, 80), turn), through((80, 80), turn + 80), width=width))
    assert degrees_of(graph) in ([1, 1, 1, 1, 4], [1, 1, 1, 1, 3, 3])
    assert total_length(graph) == pytest.approx(4 * 65, abs=4 * width)


@pytest.mark.parametrize("turn", [0, 30, 77])
def test_a_y_is_one_branching_in_its_place(turn):
    lines = [ray((80, 80), turn + away, 60) for away in (0, 130, 225)]
    graph = vessel_graph(drawn(*lines))
    assert degrees_of(graph) == [1, 1, 1, 3]
    node = next(n for n in graph if graph.degree(n) == 3)
    assert np.hypot(*(graph.nodes[node]["at"] - 80)) < 3
    assert total_length(graph) == pytest.approx(180, abs=12)
    for branch in branches_at(graph, node):
        assert min(np.degrees(np.arccos(branch.direction(4) @ (line[1] - 80) / 60)) for line in lines) < 8


@pytest.mark.parametrize("radius", [12, 30])
def test_a_ring_keeps_its_length(radius):
    rows, columns = np.indices((90, 90))
    ring = np.abs(np.hypot(rows - 45, columns - 45) - radius) < 2.5
    assert total_length(vessel_graph(ring)) == pytest.approx(2 * np.pi * radius, rel=0.05)


def test_a_ring_with_a_handle_is_a_loop():
    rows, columns = np.indices((120, 120))
    ring = np.abs(np.hypot(rows - 50, columns - 50) - 25) < 2.5
    graph = vessel_graph(ring | drawn([(50, 75), (50, 112)], shape=(120, 120)))
    assert degrees_of(graph) == [1, 3]
    assert len(branches_at(graph, next(n for n in graph if graph.degree(n) == 3))) == 3


@pytest.mark.parametrize(("spur", "edges"), [(5, 1), (8, 1), (30, 3)])
def test_a_spur_is_cut_and_a_branch_is_not(spur, edges):
    graph = vessel_graph(drawn([(80, 10), (80, 150)], [(80, 70), (80 - spur, 70)], width=7))
    assert len(list(graph.edges())) == edges
    assert total_length(graph) == pytest.approx(140 + (spur if edges > 1 else 0), abs=10)


@pytest.mark.parametrize("width", [1.5, 2.8, 4.0])
def test_a_thin_diagonal_vessel_is_not_erased(width):
    assert total_length(vessel_graph(drawn(through((80, 80), 45), width=width))) == pytest.approx(130, abs=5)


def test_radius_is_half_the_drawn_width():
    for width in (5, 9, 15):
        ((_, radius),) = edge_paths(vessel_graph(drawn([(80, 10), (85, 150)], width=width)))
        assert np.median(radius) == pytest.approx(width / 2, abs=0.75)


def test_a_mask_without_an_edge_has_a_finite_radius():
    paths = edge_paths(vessel_graph(np.ones((40, 50), bool)))
    assert paths
    for _, radius in paths:
        assert (radius <= 25).all()


polylines = st.lists(
    st.lists(st.tuples(st.integers(5, 95), st.integers(5, 95)), min_size=2, max_size=5, unique=True),
    min_size=1,
    max_size=4,
)


@given(lines=polylines, thickness=st.integers(3, 7))
@settings(max_examples=30, deadline=None)
def test_no_part_of_a_skeleton_is_lost_and_paths_join_their_nodes(lines, thickness):
    canvas = np.zeros((100, 100), np.uint8)
    for line in lines:
        cv2.polylines(canvas, [np.array(line)[:, None, ::-1]], isClosed=False, color=1, thickness=thickness)
    skeleton = skeletonize(canvas.astype(bool), method="lee") > 0
    traced = _trace(skeleton)
    held = {tuple(p) for *_, data in traced.edges() for p in data["path"].astype(int).tolist()}
    nodes = np.array([data["at"] for data in traced.nodes.values()])
    left = [p for p in np.argwhere(skeleton).tolist() if tuple(p) not in held]
    assert sum(len(data["path"]) for *_, data in traced.edges()) == len(held)  # each once
    assert all(np.hypot(*(nodes - p).T).min() < 12 for p in left)  # the rest are joints
    graph = vessel_graph(canvas.astype(bool))
    for u, v, _, data in graph.edges():
        first, last = min(u, v), max(u, v)
        gaps = data["path"][0] - graph.nodes[first]["at"], data["path"][-1] - graph.nodes[last]["at"]
        assert max(np.hypot(*gap) for gap in gaps) < 0.5
        assert len(data["path"]) == len(data["radius"])
        assert np.hypot(*np.diff(data["path"], axis=0).T).max() < 8
    assert all(graph.degree(node) > 0 for node in graph)


def test_a_branch_goes_straight_on_through_a_branching():
    graph = vessel_graph(drawn([(80, 10), (80, 150)], ray((80, 80), 50, 60)))
    start = min(graph, key=lambda node: graph.nodes[node]["at"][1])
    branch = extend_branch(graph, branches_at(graph, start)[0], 1000)
    assert branch.path[-1] == pytest.approx([80, 150], abs=5)
    assert arc_length(branch.path)[-1] == pytest.approx(140, abs=6)


def test_smoothing_keeps_a_line_and_its_ends():
    line = np.column_stack([np.linspace(0, 30, 50), np.linspace(5, 60, 50)])
    np.testing.assert_allclose(smooth_path(line), line, atol=1e-9)
    stairs = np.round(line)
    assert np.abs(smooth_path(stairs) - line).max() < 0.6
    np.testing.assert_array_equal(smooth_path(line[:2]), line[:2])


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=10, max_size=30), st.floats(0.1, 6.2))
@settings(max_examples=40, deadline=None)
def test_length_does_not_depend_on_where_a_path_lies_and_smoothing_never_adds_to_it(points, turn):
    path = np.array(points)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    assert arc_length(path @ rotation + 7)[-1] == pytest.approx(arc_length(path)[-1], abs=1e-6)
    smooth = smooth_path(path)
    np.testing.assert_allclose(smooth[[0, -1]], path[[0, -1]], atol=1e-9)
    assert arc_length(smooth)[-1] <= arc_length(path)[-1] + 1e-6


@given(st.floats(0.2, 5), st.integers(0, 4))
@settings(max_examples=20, deadline=None)
def test_a_centreline_scaled_there_and_back_is_itself(scale, index):
    line = Centreline(np.arange(10.0).reshape(5, 2), np.linspace(1, 3, 5), index)
    back = line.scaled(scale).scaled(1 / scale)
    np.testing.assert_allclose(back.points, line.points, atol=1e-9)
    np.testing.assert_allclose(back.radius, line.radius)
    assert back.crossing_index == index
    assert line.scaled(scale).length == pytest.approx(scale * line.length)


# crossings


@pytest.mark.parametrize("angle", [33, 45, 70, 90])
@pytest.mark.parametrize("width", [4.0, 7.0])
def test_an_x_is_found_at_any_angle(angle, width):
    rng = np.random.default_rng([angle, int(width)])
    at, turn = rng.uniform(58, 62, 2), rng.uniform(0, 180)
    first, second = (
        drawn(through(at, turn + more, 48), width=share * width, shape=(120, 120))
        for more, share in ((0, 0.7), (angle, 1))
    )
    for found in (crossings_on(vessel_graph(first | second)), crossings_between(first, second)):
        assert len(found) == 1
        assert np.hypot(*(found[0].at - at)) < 1.5
        assert found[0].angle == pytest.approx(angle, abs=12)
        assert min(found[0].first.length, found[0].second.length) > 60
        for centreline in (found[0].first, found[0].second):
            assert np.hypot(*(centreline.points[centreline.crossing_index] - found[0].at)) < 1.5


def test_vessels_that_cross_twice_have_two_crossings():
    row = np.linspace(20, 140, 100)
    bent = np.column_stack([row, 80 + 0.012 * (row - 80) ** 2 - 10])  # columns 70 to 113: meets column 80 twice
    first, second = drawn(bent, width=4), drawn([(10, 80), (150, 80)], width=6)
    found = crossings_between(first, second)
    expected = 80 + np.array([-1, 1]) * np.sqrt(10 / 0.012)
    np.testing.assert_allclose([c.at[0] for c in found], expected, atol=1.5)
    np.testing.assert_allclose([c.at[1] for c in found], 80, atol=1.5)


def test_between_two_maps_the_first_is_the_artery():
    artery, vein = drawn([(80, 10), (80, 150)], width=4), drawn([(10, 70), (150, 90)], width=8)
    (crossing,) = crossings_between(artery, vein)
    assert np.ptp(crossing.first.points[:, 0]) < 4
    assert np.median(crossing.second.radius) > np.median(crossing.first.radius)
    for centreline in (crossing.first, crossing.second):
        assert np.hypot(*(centreline.points[centreline.crossing_index] - crossing.at)) < 2
    larger = crossing.scaled(3.0)
    np.testing.assert_allclose(larger.at, (crossing.at + 0.5) * 3 - 0.5)
    assert larger.second.length == pytest.approx(3 * crossing.second.length)


@pytest.mark.parametrize("apart", [3.0, 4.5])
@pytest.mark.parametrize("turn", [0, 40])
def test_vessels_that_touch_side_by_side_do_not_cross(apart, turn):
    at = np.linspace(-65, 65, 130)
    bow = apart / 2 + (at / 20) ** 2 / 2
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    lines = [80 + np.column_stack([sign * bow * c + at * s, -sign * bow * s + at * c]) for sign in (-1, 1)]
    first, second = (drawn(line) for line in lines)
    assert (first & second).any() or apart > 4
    assert crossings_on(vessel_graph(without_specks(first | second))) == []
    assert crossings_between(first, second) == []


@pytest.mark.parametrize("apart", [18, 30])
@pytest.mark.parametrize("width", [4, 6])
def test_two_branchings_on_opposite_sides_are_no_crossing(apart, width):
    trunk = [(80, 5), (80, 155)]
    lines = [trunk, ray((80, 80 - apart / 2), -60, 60), ray((80, 80 + apart / 2), 120, 60)]
    assert crossings_on(vessel_graph(drawn(*lines, width=width))) == []


def test_a_branching_is_no_crossing():
    lines = [ray((80, 80), turn, 60) for turn in (0, 130, 225)]
    assert crossings_on(vessel_graph(drawn(*lines))) == []


@pytest.mark.parametrize("seed", [3, 8])
def test_crossings_of_a_simulated_eye(seed):
    truth = adult(seed, camera="drive", level="perfect", grade=0).truth
    found = np.array([crossing.at for crossing in crossings_between(truth.artery, truth.vein)])
    true = np.array([(c.row, c.col) for c in truth.crossings])
    alone = KDTree(true).query(true, k=2)[0][:, 1] > 12
    plain = np.array([min(c.artery_width_px, c.vein_width_px) > 2 and c.angle_degrees > 35 for c in truth.crossings])
    off_disc = cv2.dilate(truth.disc.astype(np.uint8), np.ones((15, 15)))[tuple(found.astype(int).T)] == 0
    assert (alone & plain).sum() > 4
    assert (KDTree(found).query(true[alone & plain])[0] < 3).mean() > 0.8
    assert (KDTree(true).query(found[off_disc])[0] < 3).mean() > 0.85


# tortuosity


def test_a_straight_line_is_not_tortuous():
    found = tortuosity(np.column_stack([np.linspace(0, 60, 120), np.linspace(0, 80, 120)]))
    assert found.distance == pytest.approx(0, abs=1e-9)
    assert found.bending == pytest.approx(0, abs=1e-9)
    assert found.length == pytest.approx(100)


def test_a_semicircle_is_half_pi_less_one():
    turn = np.linspace(0, np.pi, 400)
    found = tortuosity(80 * np.column_stack([np.sin(turn), np.cos(turn)]))
    assert found.distance == pytest.approx(np.pi / 2 - 1, rel=0.01)
    assert found.bending == pytest.approx(1 / 80**2, rel=0.05)


@given(height=st.floats(2, 12), wave=st.floats(40, 90), turn=st.floats(0, 6.3))
@settings(max_examples=15, deadline=None)
def test_a_sine_is_as_tortuous_as_its_integral(height, wave, turn):
    k = 2 * np.pi / wave
    x = np.linspace(0, 2 * wave, 800)
    flat = np.column_stack([height * np.sin(k * x), x])
    c, s = np.cos(turn), np.sin(turn)
    found = tortuosity(flat @ np.array([[c, s], [-s, c]]), smoothing=1.0)
    arc = quad(lambda t: np.sqrt(1 + (height * k * np.cos(k * t)) ** 2), 0, 2 * wave, limit=200)[0]

    def squared(t):
        slope = height * k * np.cos(k * t)
        return (height * k * k * np.sin(k * t)) ** 2 / (1 + slope**2) ** 2.5  # curvature squared, times the arc

    assert found.length == pytest.approx(arc, rel=2e-3)
    assert found.distance == pytest.approx(arc / (2 * wave) - 1, abs=3e-3)
    assert found.bending == pytest.approx(quad(squared, 0, 2 * wave, limit=200)[0] / arc, rel=0.1)


# empty masks


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (2, 3), (40, 50)])
def test_an_empty_mask_gives_an_empty_graph(shape):
    empty = np.zeros(shape, bool)
    assert not vessel_graph(empty).nodes
    assert crossings_on(vessel_graph(empty)) == crossings_between(empty, empty) == edge_paths(vessel_graph(empty)) == []


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (40, 50)])
def test_a_mask_of_nothing_else_gives_no_crossing(shape):
    full = np.ones(shape, bool)
    assert crossings_on(vessel_graph(full)) == crossings_between(full, full) == []


@pytest.mark.parametrize("grey", [0, 255])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (30, 40), (300, 400)])
def test_a_photograph_without_light_or_detail_has_no_vessels(shape, grey):
    found = find_vessels(np.full((*shape, 3), grey, np.uint8))
    assert not found.mask.any()
    assert np.isfinite(found.strength).all()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_path_of_few_points_is_not_tortuous(n):
    found = tortuosity(np.ones((n, 2)))
    assert (found.distance, found.bending, found.length) == (0, 0, 0)
