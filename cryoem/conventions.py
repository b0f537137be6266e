"""The one convention used inside, and how each package's files differ from it.

Nothing is computed here: this page is what every other module refers to. Conversions live at the
file boundary, in :mod:`cryoem.io`.

Images and volumes
    An image is indexed ``[y, x]``, a volume ``[z, y, x]`` with x fastest, as in MRC files. The
    centre is pixel ``N // 2`` on each axis (``N`` is even inside). Density is positive where the
    molecule is ("light"); a "dark" stack is multiplied by -1 while loading.

Frequencies
    Vectors are ``(x, y, z)``. ``freqs`` are in cycles per pixel, within ``[-1/2, 1/2]``. The
    forward kernel is ``exp(-2 pi i k x)`` about the centre pixel. Images use the orthonormal
    transform (divided by the side ``N``), so white noise keeps its variance. The Fourier transform
    of a volume that a decoder returns is in the same units: its central slice *is* the orthonormal
    transform of the projection (plain sum along z).

Half of a slice
    Images are real, so ``F(-k) = conj F(k)``. Only the half-plane ``kx > 0, or kx = 0 and ky > 0``
    inside a radius is kept (:class:`cryoem.lattice.FourierLattice`); the origin is left out.

Rotations
    ``rotation`` is RELION's Euler matrix ``A(rot, tilt, psi) = Rz(psi)^T Ry(tilt)^T Rz(rot)^T``
    with active ``Rz, Ry``. A density element at ``r`` (x, y, z from the centre) is seen at the
    first two entries of ``A r``. Hence a slice: ``I(kx, ky) = V(A^T (kx, ky, 0))``, in row vectors
    ``V((kx, ky, 0) @ A)``. The viewing direction in the volume's frame is the third row of ``A``.

Shifts
    ``shift = (x, y)`` in pixels moves the *image* so that the particle is centred:
    ``centred(p) = image(p - shift)``. This is ``rlnOriginX/Y`` without a change of sign.
    In Fourier space the data are multiplied by ``exp(-2 pi i k shift)``.

CTF
    RELION's: ``CTF = -sin(gamma(k) - phase_shift - atan(w / sqrt(1 - w^2)))`` with
    ``gamma = -pi lambda dz k^2 + pi/2 Cs lambda^3 k^4``, ``dz > 0`` underfocus,
    ``dz = (U + V)/2 + (U - V)/2 cos 2(arg k - angle)``, ``arg k = atan2(ky, kx)``; it is ``+w`` at
    the origin. A light stack is ``CTF * projection + noise``.

How files differ
    ============== ======================== =========================== ========================
    package        rotation                 shift                       CTF
    ============== ======================== =========================== ========================
    RELION 3.0     Euler angles, degrees    ``rlnOriginX/Y``, pixels    as here
    RELION 3.1-5   Euler angles, degrees    ``rlnOriginX/YAngst``, A    as here
    cryoSPARC      axis-angle ``r``,        ``shift`` in pixels of      angles in radians
                   ``A = expm([r]x)^T``     ``psize_A``
    cryoDRGN       ``A``                    fraction of the box         columns of ``ctf.pkl``;
                                                                        its CTF is minus this
    ============== ======================== =========================== ========================
"""
