"""Data sets with ground truth: molecules, motions, images and files."""

from cryoem.simulate.beads import BeadModel
from cryoem.simulate.dataset import SimulatedData, simulate
from cryoem.simulate.motions import MOTIONS, Motion
from cryoem.simulate.settings import Simulation

__all__ = ["MOTIONS", "BeadModel", "Motion", "SimulatedData", "Simulation", "simulate"]
