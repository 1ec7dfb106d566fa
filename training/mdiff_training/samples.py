"""Images sampled while a network trains: a picture to look at, and how far their statistics are from the material's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdiff_core import DataError, Descriptors, ModelContract, NoiseSchedule, error_rate
from mdiff_training.config import OptimizerConfig
from mdiff_training.data.micrographs import Batch, Micrographs
from mdiff_training.denoiser import Denoiser
from mdiff_training.precision import autocast

IMAGES = 64
STEPS = 20

_SEAM = 2  # between the images of a picture, pixels


def sample_columns(contract: ModelContract) -> tuple[str, ...]:
    """What :func:`take_samples` measures: S2 and lineal-path error of each phase that has a reference, in per cent."""
    return tuple(f"{curve}_error_{name}" for name in contract.references for curve in ("s2", "lp"))


def take_samples(
    denoiser: Denoiser, micrographs: Micrographs, contract: ModelContract, plan: OptimizerConfig, path: Path
) -> dict[str, float]:
    """Sample :data:`IMAGES` images, write them as one PNG to ``path``, and measure them.

    Noise and labels, which are those of a random batch, come from the plan's seed, so that the pictures of a run differ
    by the training alone. Fractions, where any are told, are those of the references.

    Raises:
        DataError: the picture cannot be written.
    """
    generator = torch.Generator().manual_seed(plan.seed)
    like = micrographs.batch(IMAGES, plan.image_size, generator)
    noise = torch.randn(like.x0.shape, generator=generator)
    if like.fractions is not None:
        told = [contract.references[phase.name].fraction for phase in contract.phases[1:]]
        like = replace(like, fractions=torch.tensor(told).expand_as(like.fractions))
    images = sample(denoiser, like, noise, contract.schedule.build(), plan)
    if not contract.phases:
        _save(((images[:, 0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy(), path)
        return {}
    labels = (images[:, 0] > 0).numpy().astype(np.uint8) if contract.channels == 1 else images.argmax(dim=1).numpy()
    _save(np.array([phase.grey for phase in contract.phases], dtype=np.uint8)[labels], path)
    return errors(labels, contract)


@torch.no_grad()
def sample(denoiser: Denoiser, like: Batch, noise: Tensor, schedule: NoiseSchedule, plan: OptimizerConfig) -> Tensor:
    """Images [N, C, H, W] on the CPU, under the conditions of ``like``."""
    device = next(denoiser.parameters()).device
    size = 4 * plan.batch // plan.accumulate  # without gradients memory has room for more than in training
    images = []
    for start in range(0, len(noise), size):
        rows = slice(start, start + size)
        part = like.part(rows).to(device)

        def predict(x: Tensor, t: Tensor, part: Batch = part) -> Tensor:
            with autocast(device, plan.bf16):
                eps: Tensor = denoiser(x, t, part.label, part.fractions)[0]
            return eps.float()

        images.append(ddim(predict, noise[rows].to(device), schedule, STEPS).cpu())
    return torch.cat(images)


def ddim(predict: Callable[[Tensor, Tensor], Tensor], noise: Tensor, schedule: NoiseSchedule, steps: int) -> Tensor:
    """DDIM with η = 0 (Song et al. 2021, eq. 12) from ``noise`` [B, C, H, W]; x̂₀ is kept within [-1, 1].

    ``predict`` takes x_t and t [B] to ε. Fewer steps are taken where the schedule has fewer.
    """
    respaced = schedule.respaced(min(steps, len(schedule)))
    x = noise
    for i in reversed(range(len(respaced))):
        now, before = respaced.alpha_bar[i].item(), respaced.alpha_bar_previous[i].item()
        t = torch.full((len(x),), respaced.timesteps[i], device=x.device)
        x0 = ((x - math.sqrt(1 - now) * predict(x, t)) / math.sqrt(now)).clamp(-1, 1)
        eps = (x - math.sqrt(now) * x0) / math.sqrt(1 - now)
        x = math.sqrt(before) * x0 + math.sqrt(1 - before) * eps
    return x


def errors(labels: npt.NDArray[np.integer[Any]], contract: ModelContract) -> dict[str, float]:
    """Error rates of the mean curves of label images [N, H, W] against the references, by :func:`sample_columns`."""
    found = {}
    for label, phase in enumerate(contract.phases):
        if (reference := contract.references.get(phase.name)) is None:
            continue
        max_lag = min(len(reference.s2), *labels.shape[1:]) - 1
        mean = Descriptors.mean([Descriptors.of(image == label, max_lag) for image in labels])
        found[f"s2_error_{phase.name}"] = error_rate(mean.s2, reference.s2)
        found[f"lp_error_{phase.name}"] = error_rate(mean.lineal_path, reference.lineal_path)
    return found


def _save(images: npt.NDArray[np.uint8], path: Path) -> None:
    """Write images [N, H, W] side by side in a square."""
    from PIL import Image

    count, height, width = images.shape
    across = math.ceil(math.sqrt(count))
    picture = Image.new(
        "L", (across * (width + _SEAM) - _SEAM, math.ceil(count / across) * (height + _SEAM) - _SEAM), 128
    )
    for place, image in enumerate(images):
        picture.paste(Image.fromarray(image), ((place % across) * (width + _SEAM), place // across * (height + _SEAM)))
    try:
        path.parent.mkdir(exist_ok=True)
        picture.save(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error
