"""Small particle files of every kind, written as plain text or by numpy."""

import numpy as np

OPTICS = """\
# version 30001

data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnImagePixelSize #6
_rlnImageSize #7
{groups}
"""
ONE_GROUP = "1 first 300 2.7 0.1 2.0 8"
TWO_GROUPS = "2 second 200 2.0 0.07 2.5 8\n1 first 300 2.7 0.1 2.0 8"
LABELS = """\
_rlnImageName
_rlnMicrographName
_rlnOpticsGroup
_rlnDefocusU
_rlnDefocusV
_rlnDefocusAngle
_rlnPhaseShift
_rlnAngleRot
_rlnAngleTilt
_rlnAnglePsi
_rlnOriginXAngst
_rlnOriginYAngst
_rlnRandomSubset
"""


def star_rows(n=6, stack="a.mrcs", groups=1):
    return [
        f"{k + 1:06d}@{stack} m{k // 2}.mrc {k % groups + 1} {15000 + k}.5 {14000 + k} {10 * k} "
        f"{k} {20 * k - 40.5} {15 * k + 3.25} {-30 * k + 70} {0.5 * k} {-0.25 * k} {k % 2 + 1}"
        for k in range(n)
    ]


def write_star_31(path, rows=None, groups=ONE_GROUP, labels=LABELS):
    rows = star_rows() if rows is None else rows
    path.parent.mkdir(parents=True, exist_ok=True)
    particles = f"\n# version 30001\n\ndata_particles\n\nloop_\n{labels}" + "\n".join(rows) + "\n"
    path.write_text(OPTICS.format(groups=groups) + particles)
    return path


CS_FIELDS = [
    ("uid", "<u8"), ("blob/path", "S40"), ("blob/idx", "<u4"), ("blob/shape", "<u4", (2,)),
    ("blob/psize_A", "<f4"),
]  # fmt: skip
CS_POSES = [
    ("uid", "<u8"), ("alignments3D/pose", "<f4", (3,)), ("alignments3D/shift", "<f4", (2,)),
    ("alignments3D/psize_A", "<f4"), ("alignments3D/split", "<u4"),
]  # fmt: skip


def cs_blobs(n=6, stack="a.mrcs", side=8):
    table = np.zeros(n, dtype=CS_FIELDS)
    table["uid"] = 100 + np.arange(n)
    table["blob/path"] = f">{stack}".encode()
    table["blob/idx"] = np.arange(n)
    table["blob/shape"] = side
    table["blob/psize_A"] = 2.0
    return table


def cs_poses(n=6):
    rng = np.random.default_rng(0)
    table = np.zeros(n, dtype=CS_POSES)
    table["uid"] = 100 + np.arange(n)
    table["alignments3D/pose"] = rng.normal(size=(n, 3))
    table["alignments3D/pose"][0] = 0  # no rotation at all
    table["alignments3D/shift"] = rng.normal(size=(n, 2))
    table["alignments3D/psize_A"] = 4.0  # found on images binned by two
    table["alignments3D/split"] = np.arange(n) % 2
    return table


def write_cs(path, table):
    with path.open("wb") as file:
        np.save(file, table)
    return path
