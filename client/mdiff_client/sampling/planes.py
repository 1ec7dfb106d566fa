"""Multi-plane denoising: slices of one plane go to the denoiser, and the planes' predictions become one x̂₀.

The slices travel in slabs, several at once, and each answer is put into the volume as it comes. What a slab holds
follows from the model and the volume alone, so that neither the server's batch nor the number of calls in flight can
change a bit of the result.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mdiff_client.denoisers import REQUEST_BYTES, Denoiser
from mdiff_client.sampling.anchors import Anchors
from mdiff_client.sampling.condition import Condition, predict
from mdiff_client.sampling.plan import SamplingPlan
from mdiff_client.sampling.thick_slices import Thickness, kernel
from mdiff_client.sampling.tiles import cover, gather, scatter
from mdiff_client.sampling.tilt import Tilt
from mdiff_core.contract import AXES

Volume = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

SLAB_IMAGES = 64
"""The most that one slab holds, as far as one request does: more fill no server better."""

_TILT_VOXELS = 2**18  # as many tell the phase fractions


@dataclass(frozen=True)
class Plane:
    """Who denoises the slices of one plane: the network, and the class that stands for this plane, if any."""

    denoiser: Denoiser
    label: int | None = None


class MultiPlane:
    """The denoisers' answer for one volume, which is remembered plane by plane.

    Args:
        planes: of the slices normal to z, y and x.
        condition: what the volume is asked to be.
        plan: decides how the planes are combined.
        shape: [C, Z, Y, X].
        fractions: of each phase, which gain and tilt keep; None where the plan uses neither.
        anchors: slices that are known.
        pool: makes the calls, as many at once as it has threads.
        on_evaluation: called after each network evaluation.
        learned: v is wanted too.
    """

    def __init__(
        self,
        planes: Sequence[Plane],
        condition: Condition,
        plan: SamplingPlan,
        shape: tuple[int, ...],
        fractions: tuple[float, ...] | None,
        anchors: Anchors,
        pool: ThreadPoolExecutor,
        on_evaluation: Callable[[], object],
        *,
        learned: bool,
    ) -> None:
        self._planes, self._condition, self._plan, self._pool = planes, condition, plan, pool
        self._shape, self._fractions, self._anchors = shape, fractions, anchors
        self._on_evaluation = on_evaluation
        self._schedules = [plane.denoiser.contract.schedule.build() for plane in planes]
        # Where a plane's answer is kept, and its weight in the mean; without a mean the next answer takes its place.
        self._places = (0, 1, 2) if plan.planes in ("average", "lagged") else (0, 0, 0)
        self._weights = np.array(plan.ratio if len(set(self._places)) > 1 else (1,), np.float32)
        self._weights /= self._weights.sum()
        self._x0: list[Volume] = [np.empty(shape, np.float32) for _ in self._weights]
        self._v: list[Volume] = [np.empty(shape, np.float32) for _ in self._weights] if learned else []
        self._gain = 1.0
        self._tilt: Tilt | None = None

    def ask(
        self,
        x: Volume,
        alpha_bar: float,
        axes: Sequence[int],
        thickness: Thickness,
        shift: tuple[int, ...],
        correlation: Floats,
        meanwhile: Callable[[], object],
    ) -> None:
        """Have the planes normal to ``axes`` denoised; :meth:`x0` then tells the volume.

        Args:
            x: x_t [C, Z, Y, X].
            alpha_bar: ᾱ_t.
            axes: which planes; the others are remembered.
            thickness: of the slices at this noise.
            shift: by how much the tiles are moved along each axis.
            correlation: of what is still unknown at this noise, by distance in voxels.
            meanwhile: called when x is needed no more, while the last answers are awaited.

        Raises:
            UsageError, UnavailableError, PermanentError: from the denoiser.
        """
        read, failed = threading.Semaphore(0), threading.Event()
        sent: list[list[Future[None]]] = []
        try:
            for axis in axes:
                sent.append(self._send(x, alpha_bar, axis, thickness.width, shift, read.release, failed))
            for _ in range(sum(map(len, sent))):
                read.acquire()
            meanwhile()
            for slabs in sent:
                for slab in slabs:
                    slab.result()
                self._on_evaluation()
        except BaseException:
            for slab in itertools.chain(*sent):
                slab.cancel()
            raise
        self._gain = thickness.gain
        if self._plan.tilt and self._fractions is not None:
            sigma, decided = ((1 - alpha_bar) / alpha_bar) ** 0.5, self._plan.decided
            tilt = Tilt.of_shares if decided is None or sigma <= decided else Tilt.of_means
            step = int(np.ceil((np.prod(self._shape[1:]) / _TILT_VOXELS) ** (1 / 3)))
            self._tilt = tilt(self._mean((slice(None, None, step),) * 3), self._fractions, self._tilt)
        self._anchors.compare(self._tilted, correlation)

    def x0(self, slab: slice) -> Volume:
        """x̂₀ of the slices ``slab`` along z: the planes' mean, its gain, the phase fractions, the anchors."""
        x0 = self._tilted((slab,))
        self._anchors.apply(x0, slab.start)
        return self._clipped(x0)

    def v(self, slab: slice) -> Volume | None:
        """v of the slices ``slab`` along z, where the variance is learned."""
        return self._weighted(self._v, (slab,)) if self._v else None

    def _tilted(self, where: tuple[slice, ...]) -> Volume:
        return self._tilt(self._mean(where)) if self._tilt is not None else self._mean(where)

    def _mean(self, where: tuple[slice, ...]) -> Volume:
        x0 = self._weighted(self._x0, where)
        if self._fractions is not None and self._gain != 1:
            # Two phases share one channel, which is their difference.
            mean = 2 * np.array(self._fractions[-len(x0) :], np.float32)[:, None, None, None] - 1
            x0 -= mean
            x0 *= np.float32(self._gain)
            x0 += mean
        return self._clipped(x0)

    def _clipped(self, x0: Volume) -> Volume:
        return np.clip(x0, -1, 1, out=x0) if self._plan.clip else x0

    def _weighted(self, planes: Sequence[Volume], where: tuple[slice, ...]) -> Volume:
        first, *others = (plane[:, *where] for plane in planes)
        total: Volume = first * self._weights[0]
        for weight, other in zip(self._weights[1:], others, strict=True):
            total += weight * other
        return total

    def _send(
        self,
        x: Volume,
        alpha_bar: float,
        axis: int,
        width: float,
        shift: tuple[int, ...],
        read: Callable[[], object],
        failed: threading.Event,
    ) -> list[Future[None]]:
        """Put the slabs of one plane in line; ``read`` is called as each has been read from ``x``.

        After one has ``failed`` no other is asked about: a server that is away would be waited for once for each.
        """
        size, edge = self._shape[1:], self._planes[axis].denoiser.contract.cube[0]
        within = [other for other in range(3) if other != axis]
        tiles = [cover(size[a], edge, shift[a], periodic=AXES[a] in self._plan.periodic) for a in within]
        weights = kernel(width, size[axis], periodic=AXES[axis] in self._plan.periodic)
        schedule, sigma = self._schedules[axis], ((1 - alpha_bar) / alpha_bar) ** 0.5
        steps = schedule.nearest(sigma * np.linalg.norm(weights, axis=1))
        weights *= np.sqrt(schedule.alpha_bar[steps] / alpha_bar)[:, None]

        def denoise(slab: slice) -> None:
            try:
                slices = _thick(x, axis, weights[slab])
                images = gather(slices, *tiles)
            finally:
                read()
            if failed.is_set():
                return
            t = np.tile(steps[slab], len(images) // len(slices))
            try:
                eps, v = predict(self._planes[axis].denoiser, self._condition, images, t, self._planes[axis].label)
            except BaseException:
                failed.set()
                raise
            images *= _column(1 / np.sqrt(schedule.alpha_bar[t]))
            images -= _column(schedule.sigma[t]) * eps
            self._clipped(images)
            place = self._places[axis]
            scatter(images, np.moveaxis(self._x0[place], axis + 1, 0)[slab], *tiles)
            if v is not None and self._v:
                scatter(v, np.moveaxis(self._v[place], axis + 1, 0)[slab], *tiles)

        image_bytes = 4 * self._shape[0] * edge**2
        images = min(SLAB_IMAGES, REQUEST_BYTES // image_bytes)
        thickness = max(1, images // (len(tiles[0]) * len(tiles[1])))
        slabs = [slice(i, min(i + thickness, size[axis])) for i in range(0, size[axis], thickness)]
        return [self._pool.submit(denoise, slab) for slab in slabs]


def _thick(x: Volume, axis: int, weights: Floats) -> Volume:
    """Slices [N, C, ., .] normal to ``axis``, each made of its neighbours with the ``weights`` [N, n] of all slices."""
    used = np.flatnonzero(weights.any(axis=0))
    span = slice(used[0], used[-1] + 1)
    part, rows = np.moveaxis(x, axis + 1, 0)[span], weights[:, span].astype(np.float32)
    if len(part) == len(rows) and np.count_nonzero(rows) == len(rows):
        return np.diagonal(rows)[:, None, None, None] * part
    if axis == 0:
        flat = rows @ x[:, span].reshape(len(x), len(part), -1)
        return np.moveaxis(flat.reshape(len(x), len(rows), *x.shape[2:]), 1, 0)
    if axis == 1:
        return np.moveaxis(rows @ x[:, :, span], 2, 0)
    return np.moveaxis(x[..., span] @ rows.T, 3, 0)


def _column(values: Floats) -> Volume:
    return values.astype(np.float32)[:, None, None, None]
