"""A network as a denoiser: ε of whatever it gives."""

import dataclasses

import torch

from mdiff_core import NoiseSchedule
from mdiff_training.denoiser import Denoiser
from mdiff_training.unet import UNet, UNetConfig

SMALL = UNetConfig(
    base_channels=8, multipliers=(1,), attention=(False,), head_channels=8, norm_groups=4, pixel_unshuffle=1
)
SCHEDULE = NoiseSchedule.linear(1000)
T = torch.tensor([0, 1, 300, 998, 999])


def noised() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clean images, noise, the noisy images of the steps T, and the velocity in them."""
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn((len(T), 1, 4, 4), generator=generator) for _ in range(2))
    alpha_bar = torch.from_numpy(SCHEDULE.alpha_bar).float()[T, None, None, None]
    signal, spread = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return x0, noise, signal * x0 + spread * noise, signal * noise - spread * x0


def test_the_noise_is_worked_out_from_the_velocity():
    _, noise, x, velocity = noised()
    network = UNet(dataclasses.replace(SMALL, velocity=True))
    network.forward = lambda *inputs: (velocity, None)  # type: ignore[method-assign]
    eps, v = Denoiser(network, SCHEDULE)(x, T)
    torch.testing.assert_close(eps, noise, atol=1e-5, rtol=0)
    assert v is None


def test_a_network_that_gives_the_noise_is_believed():
    _, noise, x, _ = noised()
    network = UNet(SMALL)
    network.forward = lambda *inputs: (noise, None)  # type: ignore[method-assign]
    assert Denoiser(network, SCHEDULE)(x, T)[0] is noise


def test_at_high_noise_an_error_of_the_velocity_is_none_of_the_image():
    """x̂_0 = √ᾱ x − √(1−ᾱ) velocity, so it is off by as much as the velocity; by 1/√ᾱ times as much as ε."""
    x0, _, x, velocity = noised()
    network = UNet(dataclasses.replace(SMALL, velocity=True))
    network.forward = lambda *inputs: (velocity + 0.1, None)  # type: ignore[method-assign]
    eps = Denoiser(network, SCHEDULE)(x, T)[0]
    last = SCHEDULE.predicted_x0(x[-1].double().numpy(), eps[-1].double().numpy(), 999)
    assert abs(abs(last - x0[-1].numpy()).max() - 0.1) < 1e-3


def test_the_weights_are_the_networks_alone():
    network = UNet(dataclasses.replace(SMALL, velocity=True))
    assert {f"network.{name}" for name in network.state_dict()} == set(Denoiser(network, SCHEDULE).state_dict())
