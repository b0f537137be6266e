"""Lightning datamodules: files, loaders and the preprocessing on the device."""

from datamodules.particles import ParticleDataModule as ParticleDataModule
from datamodules.simulated import SimulatedDataModule as SimulatedDataModule
