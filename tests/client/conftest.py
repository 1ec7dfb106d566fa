"""A denoiser with a closed-form answer: the slices of a Gaussian field of known covariance."""

import numpy as np
import pytest

from mdiff_core import Descriptors, ModelContract, Phase, Provenance, ScheduleSpec


class GaussianDenoiser:
    """The exact 2D denoiser of an isotropic Gaussian field with covariance exp(-r²/width²), periodic on n × n."""

    def __init__(self, n=32, width=4.0, timesteps=1000):
        r = np.minimum(np.arange(n), n - np.arange(n))
        self.covariance = np.exp(-(np.arange(n // 2 + 1) ** 2) / width**2)
        self.spectrum = np.fft.fft2(np.exp(-(r[:, None] ** 2 + r**2) / width**2)).real.clip(0)
        s2 = tuple((0.25 + self.covariance / 4).tolist())
        curves = Descriptors(fraction=0.5, specific_surface=0.1, s2=s2, lineal_path=s2)
        self.contract = ModelContract(
            name="gaussian",
            image_size=(n, n),
            channels=1,
            phases=(Phase("matrix", 0), Phase("sphere", 255)),
            schedule=ScheduleSpec("linear", timesteps),
            prediction="epsilon",
            provenance=Provenance("closed form", "none", "none", "none"),
            references={"sphere": curves},
        )
        self.alpha_bar = self.contract.schedule.build().alpha_bar
        self.batches = []

    def predict(self, x, t, label=None):
        assert label is None
        self.batches.append(len(x))
        a = self.alpha_bar[t][:, None, None, None]
        gain = a * self.spectrum / (a * self.spectrum + 1 - a)
        scaled_x0 = np.fft.ifft2(np.fft.fft2(x) * gain).real
        return ((x - scaled_x0) / np.sqrt(1 - a)).astype(np.float32), None


@pytest.fixture
def make_gaussian():
    return GaussianDenoiser


@pytest.fixture
def gaussian():
    return GaussianDenoiser()
