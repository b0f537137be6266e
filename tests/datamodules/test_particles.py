"""From a particle file to batches: noise of unit variance, and the rows that were asked for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from phantom_particles import PIXEL_SIZE, PhantomParticles, write_phantom_particles

from cryoem.batch import ParticleBatch
from cryoem.errors import InputError
from cryoem.forward_model import ForwardModel
from cryoem.io.volume import write_stack
from datamodules import ParticleDataModule
from datamodules.placement import choose_placement


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> PhantomParticles:
    return write_phantom_particles(tmp_path_factory.mktemp("phantom"), n=70)


def _data(particles: PhantomParticles, **options) -> ParticleDataModule:
    data = ParticleDataModule(particles.star, **{"batch_size": 16, "sign": "light", **options})
    data.setup()
    return data


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 4 images of 16 pixels, windows of two batches of 16."""
    monkeypatch.setattr("datamodules.stream.BLOCK_BYTES", 4 * 16 * 16 * 4)
    monkeypatch.setattr("datamodules.stream.WINDOW_BYTES", 40 * 16 * 16 * 4)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("box_size", [None, 12])
@pytest.mark.usefixtures("small_windows")
def test_every_placement_gives_the_same_batches_in_the_same_order(
    particles: PhantomParticles, num_workers: int, box_size: int | None
) -> None:
    passes = []
    for placement in ("ram", "stream"):
        data = _data(particles, placement=placement, num_workers=num_workers, box_size=box_size)
        loader = data.train_dataloader()
        loader.sampler.set_epoch(1)
        passes.append([data.on_after_batch_transfer(raw, 0) for raw in loader])
    assert len(passes[0]) == 5
    assert sorted(torch.cat([batch.index for batch in passes[1]]).tolist()) == list(range(70))
    for one, other in zip(*passes, strict=True):
        assert torch.equal(one.index, other.index)
        assert one.split == other.split
        torch.testing.assert_close(one.fourier, other.fourier)


@pytest.mark.parametrize("block", [1, 4, 64])  # 64: a window is one piece
@pytest.mark.usefixtures("small_windows")
def test_streamed_images_are_those_of_their_rows_in_every_epoch(
    particles: PhantomParticles, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr("datamodules.stream.BLOCK_BYTES", block * 16 * 16 * 4)
    loader = _data(particles, num_workers=2, batch_size=4).train_dataloader()
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        kept = list(loader)  # a batch stays what it was when later ones are read
        assert len(kept) == 18
        for batch in kept:
            assert torch.equal(batch.images, particles.images[batch.index])


@pytest.mark.usefixtures("small_windows")
def test_a_pass_that_was_left_in_the_middle_does_not_disturb_the_next(
    particles: PhantomParticles,
) -> None:
    loader = _data(particles, num_workers=2, batch_size=4).train_dataloader()
    for stop in (1, 9, 17):
        for _ in zip(range(stop), loader, strict=False):
            pass
        for batch in loader:
            assert torch.equal(batch.images, particles.images[batch.index])


@pytest.mark.usefixtures("small_windows")
def test_batches_are_parts_of_the_memory_that_workers_read_into(
    particles: PhantomParticles, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _data(particles, num_workers=2, batch_size=4)
    loader = data.train_dataloader()
    places = set()
    for epoch in range(3):
        for batch in loader:
            if not places:  # workers have been started: from now on, nothing is to be read here
                monkeypatch.setattr(type(data.source), "read_into", lambda *_: pytest.fail("here"))
            places.add(batch.images.data_ptr())
        assert len(places) <= 20, f"epoch {epoch}: more than ten batches in each of two windows"


@pytest.mark.usefixtures("small_windows")
def test_half_precision_stays_half_precision_up_to_the_device(tmp_path: Path) -> None:
    particles = write_phantom_particles(tmp_path, n=70)
    write_stack(tmp_path / "particles.mrcs", particles.images.numpy(), PIXEL_SIZE, "float16")
    for placement in ("ram", "stream"):
        for batch in _data(particles, placement=placement).predict_dataloader():
            assert torch.equal(batch.images, particles.images[batch.index].half())


def test_rows_that_lie_scattered_on_disk_are_read_in_the_order_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_windows: None
) -> None:
    particles = write_phantom_particles(tmp_path, n=70)
    lines = particles.star.read_text().splitlines()
    particles.star.write_text("\n".join(lines[:-70] + lines[:-71:-1]) + "\n")
    data = _data(particles, num_workers=0)
    frames = []
    read_into = data.source.read_into
    monkeypatch.setattr(
        type(data.source),
        "read_into",
        lambda self, *a: (frames.append(69 - a[2]), read_into(*a))[1],
    )
    for batch in data.train_dataloader():
        assert torch.equal(batch.images, particles.images[69 - batch.index])
    assert all((part.diff() > 0).all() for part in frames)
    assert len(frames) == 18  # 32 + 32 + 6 images by fours


def test_rows_of_a_batch_are_ordered_by_half_set_with_the_split_known(
    particles: PhantomParticles,
) -> None:
    data = _data(particles)
    for batch in data.train_dataloader():
        assert (data.half[batch.index[: batch.split]] == 0).all()
        assert (data.half[batch.index[batch.split :]] == 1).all()
        assert abs(2 * batch.split - len(batch)) <= 1


def test_prediction_reads_in_the_order_of_the_file(particles: PhantomParticles) -> None:
    rows = torch.cat([batch.index for batch in _data(particles).predict_dataloader()])
    assert torch.equal(rows, torch.arange(70))


@pytest.mark.usefixtures("small_windows")
def test_a_loader_goes_on_behind_the_batches_it_has_handed_out(
    particles: PhantomParticles,
) -> None:
    whole = [batch.index.tolist() for batch in _data(particles).train_dataloader()]
    first = _data(particles).train_dataloader()
    stream = iter(first)
    for _ in range(3):  # in the middle of the second window
        next(stream)
    second = _data(particles).train_dataloader()
    second.load_state_dict(first.state_dict())
    assert [batch.index.tolist() for batch in second] == whole[3:]
    assert [batch.index.tolist() for batch in second] == whole  # the next pass is a whole one


@pytest.mark.parametrize("box_size", [None, 12])
def test_batches_on_the_device_have_noise_of_unit_variance_around_the_model(
    tmp_path: Path, box_size: int | None
) -> None:
    particles = write_phantom_particles(tmp_path, n=200, snr=0.05)
    data = _data(particles, box_size=box_size, window=None)
    model = ForwardModel(particles.phantom, data.lattice, data.geometry.pixel_size_angstrom)
    # the phantom is in pixels of the file, and its transform in units of that box
    side, source = data.geometry.box_size, 16
    left = []
    for raw in data.predict_dataloader():
        batch = data.on_after_batch_transfer(raw, 0)
        assert isinstance(batch, ParticleBatch)
        pose = data.pose[batch.index]
        freqs = model.coordinates(pose.rotation, batch.pixel_size_angstrom) * side / source
        slices = model.transfer(batch) * particles.phantom(freqs) * data.data_scale
        left.append(model.observed(batch, pose.shift) - slices)
    rest = torch.cat(left)[:, : data.lattice.count(5)]
    assert rest.abs().square().mean() == pytest.approx(1.0, abs=0.08)


def test_cropping_rescales_shifts_and_pixel_size(particles: PhantomParticles) -> None:
    data = _data(particles, box_size=12)
    assert data.geometry.pixel_size_angstrom == pytest.approx(PIXEL_SIZE * 16 / 12)
    torch.testing.assert_close(
        data.pose.shift, particles.pose.shift * 12 / 16, atol=1e-5, rtol=1e-4
    )


def test_the_amplitude_follows_the_phantoms_spectrum(tmp_path: Path) -> None:
    particles = write_phantom_particles(tmp_path, n=400, snr=2.0)
    data = _data(particles, window=None)
    model = ForwardModel(particles.phantom, data.lattice, PIXEL_SIZE)
    slices = model.slices(data.pose.rotation, torch.full((400,), PIXEL_SIZE)) * data.data_scale
    for radius in (2, 3, 4, 5):
        shell = data.lattice.radii.round() == radius
        truth = slices[:, shell].abs().square().mean().sqrt()
        assert float(data.amplitude[radius]) == pytest.approx(float(truth), rel=0.25)
    assert (data.amplitude.diff() <= 0).all()
    assert (data.amplitude > 0).all()
    assert len(data.amplitude) == 16


def test_the_sign_of_dark_particles_is_found_by_experiment(tmp_path: Path) -> None:
    particles = write_phantom_particles(tmp_path, n=300, box_size=24, snr=2.0)
    assert _data(particles, sign="auto").normalisation.sign == 1
    write_stack(tmp_path / "particles.mrcs", -particles.images.numpy(), PIXEL_SIZE)
    assert _data(particles, sign="auto").normalisation.sign == -1


@pytest.mark.parametrize("placement", ["ram", "stream"])
def test_a_bad_pixel_names_file_and_row(tmp_path: Path, placement: str) -> None:
    particles = write_phantom_particles(tmp_path, n=70)
    images = particles.images.clone()
    images[33, 4, 5] = np.nan
    write_stack(tmp_path / "particles.mrcs", images.numpy(), PIXEL_SIZE)
    with pytest.raises(InputError, match=r"particles.star: row 33 .*not finite"):
        for _ in _data(particles, placement=placement).train_dataloader():
            pass


def test_a_bad_pixel_met_by_a_worker_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    particles = write_phantom_particles(tmp_path, n=70)
    data = _data(particles, placement="stream", num_workers=1)
    stack = np.memmap(tmp_path / "particles.mrcs", "<f4", "r+", 1024, (70, 16, 16))
    stack[33, 4, 5] = np.inf
    stack.flush()
    with pytest.raises(InputError) as caught:
        for _ in data.train_dataloader():
            pass
    assert "row 33" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_images_of_one_value_met_on_the_way_are_counted_once(
    tmp_path: Path, num_workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    particles = write_phantom_particles(tmp_path, n=70)
    data = _data(particles, placement="stream", num_workers=num_workers)
    stack = np.memmap(tmp_path / "particles.mrcs", "<f4", "r+", 1024, (70, 16, 16))
    stack[[33, 50]] = 2.5
    stack[60, 8] = 2.5  # the middle row alone
    stack.flush()
    for epoch in range(2):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        assert sum(len(batch) for batch in loader) == 70
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert "2 of 70 images have the same value in every pixel, first that of row 33" in warnings[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"box_size": 15}, "data.box_size=15 must be even"),
        ({"box_size": 18}, "data.box_size=18 must be even and between 8 and 16"),
        ({"sign": "grey"}, "data.sign=grey"),
        ({"placement": "moon"}, "data.placement=moon"),
        ({"batch_size": 0}, "data.batch_size=0"),
    ],
)
def test_settings_out_of_range_are_named(
    particles: PhantomParticles, options: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        _data(particles, **options)


def _choose(wanted: str, n_pixels: int, host: int = 100, device: int = 0) -> tuple[str, str]:
    place = choose_placement(wanted, n_pixels, torch.float32, host, device)
    return place.name, str(place.dtype).removeprefix("torch.")


def test_auto_takes_the_nearest_place_with_room_and_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    assert _choose("auto", 10, device=100) == ("gpu", "float32")
    assert _choose("auto", 10, device=99) == ("ram", "float32")
    assert _choose("auto", 11) == ("stream", "float32")
    assert "data.placement=auto: stream; the images take 0.00 GB (44 bytes)" in caplog.text
    assert "100 bytes) of memory are free" in caplog.text
    assert "auto holds what takes at most 40% of that" in caplog.text


def test_a_device_that_is_too_small_for_float32_gets_float16() -> None:
    assert _choose("gpu", 20, device=100) == ("gpu", "float32")
    assert _choose("gpu", 40, device=100) == ("gpu", "float16")


@pytest.mark.parametrize("where", ["gpu", "ram"])
def test_what_does_not_fit_is_refused_with_the_bytes(where: str) -> None:
    with pytest.raises(InputError, match=rf"placement={where}.*bytes.*data.placement=stream"):
        _choose(where, 41, device=100)
