"""Overrides of a training of seconds, for tests that start train.py or sweep.py."""

TINY = (
    "preflight=false",
    "data.simulation.box_size=16",
    "data.simulation.pixel_size_angstrom=14",
    "data.batch_size=16",
    "callbacks.export.n_volumes=2",
)
