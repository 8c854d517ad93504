"""Simulated fluorescence microscopy: fields of nuclei whose ground truth is known exactly.

The steps follow Lehmussola et al., "Computational framework for simulating fluorescence microscope
images with cell populations" (IEEE Transactions on Medical Imaging, 2007): shapes, texture,
uneven light, blur by the optics, and the noise of a camera.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float64]

_ATTEMPTS = 40
_MIN_FREE = 0.85  # of a nucleus must remain where it meets another
_MIN_AREA = 40  # pixels, of what a border leaves
_PSF_SIGMA = 1.1  # pixels
_CAMERA_OFFSET = 100.0  # counts
_READ_NOISE = 6.0  # counts
_COUNTS_PER_PHOTON = 4.0


@dataclass(frozen=True, slots=True)
class Scene:
    """What a field looks like.

    Attributes:
        radius: typical radius of a nucleus, pixels.
        clustering: fraction of the nuclei that are put against another one, 0 to 1.
        photons: that a typical nucleus sends to a pixel; fewer make a noisier image.
        haze: brightness of the background against a nucleus.
    """

    radius: float = 19.0
    clustering: float = 0.4
    photons: float = 300.0
    haze: float = 0.08


@dataclass(frozen=True, slots=True, eq=False)
class _Nucleus:
    """Where a nucleus is: its first pixel, and how deep below its outline each pixel lies.

    `depth` is 1 at the centre, falls to 0 at the outline, and is 0 outside.
    """

    y0: int
    x0: int
    depth: Floats

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.depth.shape
        return slice(self.y0, self.y0 + height), slice(self.x0, self.x0 + width)


def simulate_field(
    rng: np.random.Generator,
    shape: tuple[int, int],
    n_objects: int,
    scene: Scene | None = None,
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """One field and its truth.

    Args:
        rng: the same state gives the same field.
        shape: (H, W) in pixels.
        n_objects: wanted; where they do not fit beside each other, there are fewer.

    Returns:
        image: (H, W) uint16, camera counts with an offset of about 100.
        labels: (H, W) uint16, before blur and noise: 0 is background, objects are 1..N, each one
            connected region.
    """
    scene = scene or Scene()
    labels = np.zeros(shape, np.uint16)
    light = np.zeros(shape)
    for label, nucleus in enumerate(_place(rng, labels, n_objects, scene), start=1):
        mask = nucleus.depth > 0
        labels[nucleus.window][mask] = label
        light[nucleus.window][mask] = _light(rng, nucleus.depth)[mask]
    light += _background(rng, light, scene)
    return _expose(rng, light, scene.photons), labels


def _place(
    rng: np.random.Generator, labels: npt.NDArray[np.uint16], n_objects: int, scene: Scene
) -> Iterator[_Nucleus]:
    """Nuclei one after another; the caller paints each into `labels` before the next is made."""
    height, width = labels.shape
    centres: list[tuple[float, float, float]] = []
    for _ in range(n_objects):
        for _ in range(_ATTEMPTS):
            radius = scene.radius * float(np.clip(rng.lognormal(0, 0.22), 0.45, 1.7))
            y, x = rng.uniform(0, height), rng.uniform(0, width)
            if centres and rng.random() < scene.clustering:
                y, x = _beside(rng, centres[rng.integers(len(centres))], radius)
            if not (0 <= y < height and 0 <= x < width):
                continue
            nucleus = _cut(_shape(rng, y, x, radius), labels)
            if nucleus is not None:
                centres.append((y, x, radius))
                yield nucleus
                break


def _beside(
    rng: np.random.Generator, centre: tuple[float, float, float], radius: float
) -> tuple[float, float]:
    y, x, other = centre
    angle = rng.uniform(0, 2 * np.pi)
    distance = (radius + other) * rng.uniform(0.88, 1.05)
    return y + distance * np.sin(angle), x + distance * np.cos(angle)


def _shape(rng: np.random.Generator, y: float, x: float, radius: float) -> _Nucleus:
    """An ellipse with a few harmonics on its outline."""
    stretch = np.sqrt(rng.uniform(1.0, 2.0))
    reach = int(np.ceil(radius * stretch * 1.5))
    y0, x0 = round(y) - reach, round(x) - reach
    rows, columns = np.mgrid[y0 : y0 + 2 * reach + 1, x0 : x0 + 2 * reach + 1]
    turn = rng.uniform(0, np.pi)
    u = (columns - x) * np.cos(turn) + (rows - y) * np.sin(turn)
    v = (rows - y) * np.cos(turn) - (columns - x) * np.sin(turn)
    distance = np.hypot(u / (radius * stretch), v / (radius / stretch))
    angle = np.arctan2(v, u)
    outline = np.ones_like(distance)
    for k in range(2, 6):
        outline += rng.normal(0, 0.13 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    return _Nucleus(y0, x0, np.clip(1 - (distance / outline) ** 2, 0, None))


def _light(rng: np.random.Generator, depth: Floats) -> Floats:
    """What each pixel of a nucleus sends: dimmer at the rim, with the texture of chromatin."""
    brightness = np.clip(rng.lognormal(0, 0.3), 0.35, 2.5)
    light: Floats = brightness * (0.7 + 0.3 * np.sqrt(depth)) * _texture(rng, depth.shape)
    return light


def _texture(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Multiplicative, mean about 1: coarse and fine chromatin."""
    texture = np.ones(shape)
    for sigma, strength in ((5.0, 0.10), (2.0, 0.10)):
        noise = ndimage.gaussian_filter(rng.standard_normal(shape), sigma)
        texture += strength * noise / noise.std()
    return np.clip(texture, 0.4, None)


def _cut(nucleus: _Nucleus, labels: npt.NDArray[np.uint16]) -> _Nucleus | None:
    """What lies inside the field and on free ground; None if too little or no one piece of it."""
    height, width = labels.shape
    top, left = max(0, -nucleus.y0), max(0, -nucleus.x0)
    bottom, right = height - nucleus.y0, width - nucleus.x0
    inside = nucleus.depth[top:bottom, left:right]
    inner = _Nucleus(nucleus.y0 + top, nucleus.x0 + left, inside)
    free = (inside > 0) & (labels[inner.window] == 0)
    if free.sum() < max(_MIN_AREA, _MIN_FREE * (inside > 0).sum()) or ndimage.label(free)[1] != 1:
        return None
    return _Nucleus(inner.y0, inner.x0, np.where(free, inside, 0.0))


def _background(rng: np.random.Generator, light: Floats, scene: Scene) -> Floats:
    """Uneven glow of the medium, and light that nuclei scatter around themselves."""
    height, width = light.shape
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    slope_y, slope_x, bow = rng.uniform(-0.4, 0.4, 3)
    glow = 1 + slope_y * rows + slope_x * columns - bow * (rows**2 + columns**2 - 0.7)
    clouds = ndimage.zoom(rng.standard_normal((8, 8)), (height / 8, width / 8), order=3)
    glow += 0.15 * clouds
    near, far = (ndimage.gaussian_filter(light, sigma, truncate=2) for sigma in (12, 40))
    scattered = 0.5 * near + far
    total: Floats = scene.haze * np.clip(glow, 0.2, None) + 0.08 * scattered
    return total


def _expose(rng: np.random.Generator, light: Floats, photons: float) -> npt.NDArray[np.uint16]:
    """Blur by the optics, shot noise and read-out noise; what is too bright saturates."""
    seen = ndimage.gaussian_filter(light, _PSF_SIGMA) * photons
    counts = rng.poisson(seen) * _COUNTS_PER_PHOTON + _CAMERA_OFFSET
    counts += rng.normal(0, _READ_NOISE, light.shape)
    image: npt.NDArray[np.uint16] = np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
    return image
