"""Trees of cells that cover the sphere, the rotations, and the plane of shifts."""

from cryoem.grids.shift import ShiftGrid as ShiftGrid
from cryoem.grids.so3 import RotationGrid as RotationGrid
from cryoem.grids.symmetry import symmetry_group as symmetry_group
