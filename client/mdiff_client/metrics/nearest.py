"""How near sections are to the nearest training image: E_px, and whether the model has memorized its data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from mdiff_client.metrics.metric import Floats, Labels, Row, Setting, Volumes, median
from mdiff_client.metrics.sections import sections_of, whole_planes

Images = npt.NDArray[np.generic]
Encode = Callable[[Images], npt.NDArray[np.floating]]
"""Images [..., H, W] as channels [..., C, H, W] whose squared differences are to be summed."""


def symmetries(images: Images) -> Images:
    """The eight rotations and reflections of squares [..., n, n]: [8, ..., n, n]."""
    turned = [np.rot90(images, k, (-2, -1)) for k in range(4)]
    return np.array(turned + [np.swapaxes(one, -2, -1) for one in turned])


def nearest(sections: Images, stacks: Iterable[Images], encode: Encode, *, symmetric: bool) -> Floats:
    """Squared distance of each section to the nearest crop of the material, at whatever place of whatever image.

    Args:
        sections: [n, h, h].
        stacks: images of the material, [m, H, W] each; those smaller than the sections are left out.
        encode: what of them is compared.
        symmetric: compare each section in its eight rotations and reflections.

    Returns: [n], the sum of the squared differences over channels and pixels.
    """
    from scipy import fft

    h, w = sections.shape[-2:]
    patterns = encode(symmetries(sections) if symmetric else sections[None]).astype(np.float32)
    spectra: dict[tuple[int, ...], tuple[npt.NDArray[np.complexfloating], npt.NDArray[np.complexfloating]]] = {}
    found = np.full(len(sections), np.inf)
    for image in (image for images in stacks for image in images):
        size = image.shape
        if min(size) < h:
            continue
        # Where a pattern lies wholly inside the image the transform's wrap adds nothing.
        if size not in spectra:
            spectra[size] = np.conj(fft.rfft2(patterns, size)), np.conj(fft.rfft2(np.ones((h, w), np.float32), size))
        wanted, window = spectra[size]
        channels = encode(image).astype(np.float32)
        overlap = fft.irfft2((wanted * fft.rfft2(channels, size)).sum(axis=2), size, workers=-1)
        energy = fft.irfft2(fft.rfft2((channels**2).sum(axis=0), size) * window, size)
        places = (energy - 2 * overlap)[..., : size[0] - h + 1, : size[1] - w + 1]
        found = np.minimum(found, places.min(axis=(0, 2, 3)))
    return np.asarray((found + (patterns[0].astype(np.float64) ** 2).sum(axis=(1, 2, 3))).clip(min=0))


def lacks_training(setting: Setting) -> str | None:
    """Advice where no training material is given, or none large enough."""
    if not setting.tools.training:
        return "it compares with the training images: give them with --training"
    if not any(min(stack.shape[1:]) >= setting.edge for stack in _training(setting)):
        return f"the training images are smaller than the sections of {setting.edge} pixels"
    return None


def pixel_rows(volumes: Volumes, setting: Setting) -> Iterator[Row]:
    """E_px of Düreth et al. (eq. 10), of grey levels from 0 to 1, over all crops of the training images."""
    sections = sections_of(volumes, setting.edge)

    def grey(images: Images) -> Floats:
        return setting.grey(images.astype(np.uint8))[..., None, :, :]

    distances = nearest(np.concatenate(sections), _training(setting), grey, symmetric=False)
    yield Row("", 100 * _by_volume(distances, sections) / setting.edge**2, median)


def memorization_rows(volumes: Volumes, setting: Setting) -> Iterator[Row]:
    """Share of the pixels in which a section differs from the nearest training crop under all eight symmetries.

    Over the share in which two unrelated sections of the section's and the material's phase fractions would differ:
    0 is a copy. How far below 1 the nearest of many unrelated crops lies, the same of real material that the model
    never saw tells.
    """
    sections = sections_of(volumes, setting.edge)
    kinds = len(setting.names)
    cut = np.concatenate(sections)
    one_hot = partial(_one_hot, kinds)
    differing = nearest(cut, _training(setting), one_hot, symmetric=True) / 2
    fractions = np.array([np.bincount(one.ravel(), minlength=kinds) for one in cut]) / setting.edge**2
    overall = np.sum([np.bincount(labels.ravel(), minlength=kinds) for labels in setting.tools.training], axis=0)
    unrelated = 1 - fractions @ (overall / overall.sum())
    yield Row("", _by_volume(differing / setting.edge**2 / unrelated, sections), median)


def _by_volume(values: Floats, sections: Sequence[Labels]) -> Floats:
    """[volumes, sections]: sections of one volume are not independent samples."""
    return values.reshape(len(sections), -1)


def _training(setting: Setting) -> Iterator[Labels]:
    return (stack for labels in setting.tools.training for stack in whole_planes(labels))


def _one_hot(kinds: int, images: Images) -> npt.NDArray[np.float32]:
    return np.stack([images == label for label in range(kinds)], axis=-3).astype(np.float32)
