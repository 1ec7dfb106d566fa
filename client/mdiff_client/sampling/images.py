"""Images, each sampled for itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mdiff_client.denoisers import Denoiser, Images
from mdiff_client.sampling.condition import UNCONDITIONAL, Condition, predict
from mdiff_client.sampling.noise import Noise, Purpose
from mdiff_client.sampling.plan import ImagePlan
from mdiff_client.sampling.reverse import reverse_step

IMAGES_AT_ONCE = 64
"""As many as are best sampled together: the largest batch that a server may form by default."""


def sample_images(
    denoiser: Denoiser,
    plan: ImagePlan,
    seed: int,
    first: int = 0,
    count: int = 1,
    condition: Condition = UNCONDITIONAL,
    on_evaluation: Callable[[], object] = lambda: None,
) -> Images:
    """Sample the images number ``first`` to ``first + count - 1`` of a seed together.

    Args:
        denoiser: the network; it sees all of them in one batch.
        plan: how to sample.
        seed: of the set of images, 0 … 2⁶⁴-1.
        first: number of the first image in the set.
        count: how many images; what an image shows depends on its number, not on those beside it.
        condition: what the images are asked to be.
        on_evaluation: called after each network evaluation, for progress.

    Returns:
        x_0, float32 [count, C, H, W], data range [-1, 1].

    Raises:
        UsageError: plan or condition ask for more than the model's contract offers.
        UnavailableError, PermanentError: from the denoiser.
    """
    contract = denoiser.contract
    schedule = plan.schedule(contract.schedule.build())
    shape = (contract.channels, *contract.image_size)
    sources = [Noise(seed, first + image) for image in range(count)]

    def noise(purpose: Purpose, i: int) -> Images:
        return np.stack([source.normal(purpose, i, 0, shape) for source in sources])

    x = noise(Purpose.START, 0)
    before = np.zeros_like(x)
    for i in reversed(range(len(schedule))):
        eps, v = predict(denoiser, condition, x, np.full(count, schedule.timesteps[i], np.int64))
        on_evaluation()
        x0 = schedule.predicted_x0(x, eps, i)
        if plan.clip:
            x0 = np.clip(x0, -1, 1)
        step = reverse_step(plan, schedule, i, v)
        x = step.state * x + step.x0 * x0 + step.before * before
        if i > 0 and np.any(step.variance):
            x += np.sqrt(step.variance, dtype=np.float32) * noise(Purpose.REVERSE, i)
        before = x0
    return x
