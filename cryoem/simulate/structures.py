"""Atomic models as beads: one per atom, as heavy as its atomic number."""

from pathlib import Path

import torch

from cryoem.errors import InputError
from cryoem.simulate.beads import BeadModel

STRUCTURE_SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif")


def read_structure(path: Path) -> BeadModel:
    """Atoms of the first model in a PDB or mmCIF file, centred on their centroid.

    Chains are the domains. Water and alternative conformations other than the first are left out.

    Raises
    ------
    InputError
        If the file cannot be read or holds no atom, or gemmi is not installed.
    """
    try:
        import gemmi
    except ImportError as error:
        raise InputError(
            f"{path}: reading atomic models needs gemmi; install it with "
            "'pip install gemmi' or the extra 'cryoem[model]'"
        ) from error
    try:
        structure = gemmi.read_structure(str(path))
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: not a readable PDB or mmCIF file ({error})") from error
    structure.remove_waters()
    structure.remove_alternative_conformations()
    chains = list(structure[0]) if len(structure) else []
    atoms = [
        (*atom.pos.tolist(), atom.element.atomic_number, number)
        for number, chain in enumerate(chains)
        for residue in chain
        for atom in residue
    ]
    if not atoms:
        raise InputError(f"{path}: no atoms in the first model")
    table = torch.tensor(atoms, dtype=torch.float64)
    positions, weights = table[:, :3], table[:, 3]
    centroid = (positions * weights[:, None]).sum(0) / weights.sum()
    return BeadModel(positions - centroid, weights, table[:, 4].long())
