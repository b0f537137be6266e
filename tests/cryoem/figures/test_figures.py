import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection

from cryoem import figures
from cryoem.analysis.path import representative_latents
from cryoem.figures.loss_curve import _interesting
from cryoem.figures.pose_distribution import mollweide
from cryoem.figures.style import round_length
from cryoem.figures.volume_montage import _most_variable_views
from cryoem.metrics.fsc import FSCCurve

SIDE = 16


def uniform_directions(n: int) -> np.ndarray:
    v = np.random.default_rng(0).normal(size=(n, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def blob(z: float, y: float, x: float) -> np.ndarray:
    axis = np.arange(SIDE)
    profiles = [np.exp(-0.5 * ((axis - c) / 1.2) ** 2) for c in (z, y, x)]
    return np.einsum("i,j,k->ijk", *profiles).astype(np.float32)


def curve() -> FSCCurve:
    frequency = np.arange(8) / 16
    return FSCCurve(frequency, np.array([1, 0.99, 0.9, 0.6, 0.4, 0.3, 0.1, 0.0]))


def test_the_equator_and_the_poles_are_where_mollweide_put_them():
    x, y = mollweide(np.array([[0.0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1], [1, 0, 0]]))
    np.testing.assert_allclose(x, [np.sqrt(2), -np.sqrt(2), 0, 0, 0], atol=1e-4)
    np.testing.assert_allclose(y, [0, 0, np.sqrt(2), -np.sqrt(2), 0], atol=1e-4)


def test_the_map_of_the_sphere_keeps_areas():
    x, y = mollweide(uniform_directions(200_000))
    counts, *_ = np.histogram2d(x, y, bins=[np.linspace(-1, 1, 5), np.linspace(-0.6, 0.6, 5)])
    expected = len(x) * (0.5 * 0.3) / (4 * np.pi)
    np.testing.assert_allclose(counts, expected, rtol=0.08)  # 5 sigma of a count of 2400 is 0.1


def test_uniform_views_have_the_density_of_uniform_views():
    rotations = np.zeros((60_000, 3, 3))
    rotations[:, 2] = uniform_directions(len(rotations))
    axes = figures.pose_distribution(rotations).axes[0]
    hexagons = next(c for c in axes.collections if isinstance(c, PolyCollection))
    density = np.asarray(hexagons.get_array())
    inside = density[density > 0]
    assert inside.mean() == pytest.approx(1, abs=0.03)
    assert np.median(np.abs(inside - 1)) < 0.2  # about 50 particles per hexagon


def test_one_view_is_one_bright_spot():
    rotations = np.tile(np.eye(3), (100, 1, 1))
    axes = figures.pose_distribution(rotations).axes[0]
    density = np.asarray(axes.collections[0].get_array())
    assert (density > 0).sum() == 1


def test_the_montage_looks_across_a_motion_and_not_along_it():
    along_z = np.stack([blob(z, 8, 8) for z in (4, 6, 8, 10, 12)])
    projection_axis, slice_axis, plane = _most_variable_views(along_z)
    assert projection_axis != 0
    assert slice_axis != 0
    assert plane == 8
    assert figures.volume_montage(along_z).axes[0].get_title() == "1"


def test_many_volumes_are_thinned_but_keep_the_ends():
    series = np.stack([blob(8, 8, x) for x in np.linspace(4, 12, 40)])
    titles = [axes.get_title() for axes in figures.volume_montage(series).axes[:12]]
    assert titles[0] == "1"
    assert titles[-1] == "40"


def test_all_panels_of_one_row_of_the_montage_share_their_scale():
    figure = figures.volume_montage(np.stack([blob(8, 8, x) for x in (6, 10)]))
    for row in range(4):
        limits = {axes.images[0].get_clim() for axes in figure.axes[2 * row : 2 * row + 2]}
        assert len(limits) == 1


def test_the_fsc_ends_at_nyquist_and_names_its_resolutions():
    axes = figures.fsc_curve({"half maps": curve()}, voxel_size=2.0).axes[0]
    assert axes.get_xlim() == (0, 0.25)
    text = axes.get_legend().get_texts()[0].get_text()
    # between shells 3 (0.6) and 4 (0.4), halfway: 3.5/16 per voxel of 2 A
    assert text.endswith(f"{2 * 16 / 3.5:.1f} Å at 0.5")
    assert "half maps: " in text


def test_a_curve_that_never_falls_gives_a_bound():
    high = FSCCurve(np.arange(8) / 16, np.full(8, 0.9))
    axes = figures.fsc_curve({"x": high}, voxel_size=2.0).axes[0]
    assert axes.get_legend().get_texts()[0].get_text() == "x: ≤ 4.0 Å at 0.143, ≤ 4.0 Å at 0.5"


def test_two_latents_are_drawn_as_they_are_and_more_by_principal_components():
    z = np.random.default_rng(0).normal(size=(200, 4)) * [1, 5, 1, 3]
    two = figures.latent_scatter(z[:, :2]).axes[0]
    np.testing.assert_allclose(two.collections[0].get_offsets(), z[:, :2])
    four = figures.latent_scatter(z).axes[0]
    spread = np.asarray(four.collections[0].get_offsets()).std(axis=0)
    np.testing.assert_allclose(spread, z.std(axis=0)[[1, 3]], rtol=0.05)
    assert "PC1" in four.get_xlabel()


def test_many_particles_are_counted_in_hexagons():
    z = np.random.default_rng(0).normal(size=(20_001, 2))
    for colour in (None, z[:, 0]):
        hexagons = figures.latent_scatter(z, colour).axes[0].collections[0]
        assert isinstance(hexagons, PolyCollection)
    # the mean of z1 in a hexagon is its place on the z1 axis, within half of its width
    values, centres = np.asarray(hexagons.get_array()), hexagons.get_offsets()[:, 0]
    assert np.abs(values - centres).max() < 0.1


def test_losses_come_first_and_what_never_changes_is_left_out():
    table = pd.DataFrame({"step": [0, 1], "lr": [1.0, 1.0], "images/s": [5, 6], "loss": [2, 1]})
    assert _interesting(table) == ["loss", "images/s"]


def test_means_of_epochs_are_drawn_over_the_middle_of_their_steps():
    table = pd.DataFrame({"epoch": [0, 0, 0, 1, 1, 1], "loss": [5.0, 3, np.nan, 2, 1, np.nan]})
    table["epoch_loss"] = [np.nan, np.nan, 4, np.nan, np.nan, 1.5]
    assert _interesting(table) == ["loss"]
    steps, means = figures.loss_curve(table).axes[0].lines
    np.testing.assert_allclose(steps.get_xdata(), [0, 0.5, 1, 1.5])
    np.testing.assert_allclose(means.get_xydata(), [[0.5, 4], [1.5, 1.5]])


def test_the_bar_of_the_scale_is_a_round_length():
    assert [round_length(x) for x in (64.0, 49.0, 19.9, 0.7)] == [50, 20, 10, 0.5]


def test_drawing_leaves_matplotlib_as_it_was(tmp_path):
    before = dict(matplotlib.rcParams)
    figures.volume_slices(blob(8, 8, 8), 1.0)
    assert dict(matplotlib.rcParams) == before


def test_every_figure_becomes_a_png(tmp_path):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(60, 3))
    images = rng.normal(size=(4, SIDE, SIDE))
    losses = pd.DataFrame({"epoch": [0, 0, 1, 1], "loss": [3.0, 2, 1, np.nan]})
    drawn = {
        "slices": figures.volume_slices(blob(8, 7, 9), 3.0),
        "loss": figures.loss_curve(losses),
        "no_loss": figures.loss_curve(pd.DataFrame({"epoch": []})),
        "latents": figures.latent_scatter(z, z[:, 0], "z1", marks=representative_latents(z, 5)),
        "histogram": figures.latent_histogram(z[:, 0], z[:3, 0]),
        "gallery": figures.particle_gallery(images, images, images),
    }
    for name, figure in drawn.items():
        path = figures.save_figure(figure, tmp_path / "figures" / f"{name}.png")
        assert path.read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "figures").iterdir())) == len(drawn)  # no temporary file is left


def test_an_angle_has_the_same_colour_before_and_after_its_period() -> None:
    angle = np.radians([1.0, 359.0, 180.0])
    on_circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    axes = figures.latent_colours(np.eye(3)[:, :2], {"motion": on_circle}).axes[0]
    (points,) = axes.collections
    points.update_scalarmappable()
    first, last, half = points.get_facecolors()[:, :3]
    assert np.abs(first - last).max() < 0.1 < np.abs(first - half).max()


def test_a_quantity_that_is_always_zero_has_a_readable_axis() -> None:
    figure = figures.epoch_curves([1, 2], {"none": [0.0, 0.0], "below": [-2.0, -1.0]})
    assert figure.axes[0].get_ylim() == (0, 1)
    assert figure.axes[1].get_ylim() == pytest.approx((-2.2, 0))


def test_all_epochs_are_on_the_axis_of_a_quantity_that_is_known_of_one() -> None:
    figure = figures.epoch_curves([1, 2, 3], {"late": [np.nan, np.nan, 1.0], "one": [1.0] * 3})
    late, one = figure.axes
    assert late.get_xlim() == one.get_xlim() == pytest.approx((0.6, 3.4))
    assert [tick for tick in late.get_xticks() if 0.6 <= tick <= 3.4] == [1, 2, 3]
    (only,) = figures.epoch_curves([1], {"one": [2.0]}).axes
    assert [tick for tick in only.get_xticks() if 0.6 <= tick <= 1.4] == [1]


def test_the_likelihood_is_drawn_over_the_frequencies_of_its_shells() -> None:
    by_epoch = {epoch: np.full(8, float(epoch)) for epoch in range(1, 21)}
    axes = figures.shell_likelihood(by_epoch, box_size=16, pixel_size=2.0).axes[0]
    curves = [line for line in axes.lines if len(line.get_xdata()) == 8]
    assert 2 < len(curves) <= 8
    assert (curves[0].get_ydata()[0], curves[-1].get_ydata()[0]) == (1, 20)
    assert curves[0].get_xdata()[-1] == pytest.approx(0.25)  # Nyquist, in 1/A
