"""Noise that depends on coordinates or keys alone: the same place always looks the same.

Nothing here keeps a state. Two grids that sample one place get one value, whatever else they hold.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Singles: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]
Indices: TypeAlias = npt.NDArray[np.int32]
Hashes: TypeAlias = npt.NDArray[np.uint64]
Bools: TypeAlias = npt.NDArray[np.bool_]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def hashed(*keys: npt.ArrayLike) -> Hashes:
    """A 64-bit hash of integer keys, which broadcast (finaliser of SplitMix64, Steele 2014)."""
    state: Hashes = np.zeros(1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            number = np.asarray(key)
            if number.dtype != np.uint64:
                number = number.astype(np.int64).view(np.uint64)
            state = state + number + _GOLDEN
            state = (state ^ (state >> np.uint64(30))) * _MIX_1
            state = (state ^ (state >> np.uint64(27))) * _MIX_2
            state = state ^ (state >> np.uint64(31))
    return state


def uniform(*keys: npt.ArrayLike) -> Floats:
    """A number in 0..1 for each combination of integer keys."""
    return (hashed(*keys) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(*keys: npt.ArrayLike) -> Floats:
    """A standard normal number for each combination of integer keys (Box and Muller)."""
    radius = np.sqrt(-2 * np.log1p(-uniform(*keys, 1)))
    result: Floats = radius * np.cos(2 * np.pi * uniform(*keys, 2))
    return result


def value_noise(x: Floats, y: Floats, period_m: float, key: int) -> Floats:
    """Smooth noise in -1..1 with bumps of about ``period_m`` metres.

    Parameters
    ----------
    x, y : ndarray
        Metres, of one shape.
    period_m : float
        Distance between the knots of the lattice.
    key : int
        Another key, another field.
    """
    column, row = np.floor(x / period_m), np.floor(y / period_m)
    u, v = x / period_m - column, y / period_m - row
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    i, j, knot = _lattice(column, row)
    knots = uniform(key, *knot).ravel()
    stride = knot[1].size
    corner = i * stride + j
    north = knots[corner] * (1 - u) + knots[corner + stride] * u
    south = knots[corner + 1] * (1 - u) + knots[corner + stride + 1] * u
    result: Floats = 2 * (north * (1 - v) + south * v) - 1
    return result


def _lattice(column: Floats, row: Floats) -> tuple[Ints, Ints, tuple[Ints, Ints]]:
    """Squares of a lattice counted from the first that is met, less one, and all that are met.

    Hashing each knot once is far cheaper than hashing it for every pixel around it.
    """
    i, j = column.astype(np.int64), row.astype(np.int64)
    i0, j0 = int(i.min()) - 1, int(j.min()) - 1
    every_i = np.arange(i0, int(i.max()) + 2)[:, None]
    every_j = np.arange(j0, int(j.max()) + 2)[None, :]
    return i - i0, j - j0, (every_i, every_j)


def fractal(x: Floats, y: Floats, period_m: float, key: int, octaves: int = 4) -> Floats:
    """Sum of :func:`value_noise` over octaves of half the size and half the height."""
    total = np.zeros_like(x)
    for octave in range(octaves):
        total += value_noise(x, y, period_m / 2**octave, key * 16 + octave) / 2**octave
    return total


def spectral(rng: np.random.Generator, size: int, slope: float) -> Singles:
    """A periodic random field of unit variance whose power falls with frequency as f ** -slope.

    Cloud fields seen by satellites have slopes of about 5/3 along a line, steeper where radiation
    smooths them (Davis et al. 1997, The Landsat scale break in stratocumulus, J. Atmos. Sci. 54);
    one more in the plane.

    Returns
    -------
    ndarray of float32, shape (size, size)
    """
    white = np.fft.rfft2(rng.standard_normal((size, size)))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(white * frequency ** (-slope / 2), s=(size, size))
    result: Singles = ((field - field.mean()) / field.std()).astype(np.float32)
    return result


def worley(x: Floats, y: Floats, period_m: float, key: int) -> tuple[Ints, Ints, Floats]:
    """Cells around scattered points, one point in each square of a lattice.

    Returns
    -------
    i, j : ndarray of int64
        Lattice square whose point is the nearest one.
    gap : ndarray
        Metres by which the second nearest point is farther away: 0 on the border between cells.
    """
    i, j, knot = _lattice(np.floor(x / period_m), np.floor(y / period_m))
    site_x, site_y = (site.ravel() for site in worley_site(*knot, period_m, key))
    stride = knot[1].size
    home = i * stride + j
    best, second = np.full(x.shape, np.inf), np.full(x.shape, np.inf)
    owner = home.copy()
    for step in (di * stride + dj for dj in (-1, 0, 1) for di in (-1, 0, 1)):
        square = home + step
        distance = (x - site_x[square]) ** 2 + (y - site_y[square]) ** 2
        nearer = distance < best
        second = np.where(nearer, best, np.minimum(second, distance))
        owner[nearer] = square[nearer]
        best = np.minimum(best, distance)
    gap = np.sqrt(second) - np.sqrt(best)
    return owner // stride + knot[0][0, 0], owner % stride + knot[1][0, 0], gap


def worley_site(i: Ints, j: Ints, period_m: float, key: int) -> tuple[Floats, Floats]:
    """Where the point of a lattice square of :func:`worley` lies, in metres."""
    site_x = (i + 0.1 + 0.8 * uniform(key, 1, i, j)) * period_m
    site_y = (j + 0.1 + 0.8 * uniform(key, 2, i, j)) * period_m
    return site_x, site_y
