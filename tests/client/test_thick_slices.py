import numpy as np
import pytest
from scipy import ndimage

from mdiff_client.sampling.thick_slices import GaussianModel, Look, gaussian, kernel


def three_planes(sigma, width):
    return [Look(axis, sigma, width, kept=1.0, weight=1 / 3) for axis in range(3)]


def covariance_of(width, lags):
    return np.exp(-(np.arange(lags) ** 2) / width**2)


@pytest.mark.parametrize(("periodic", "mode"), [(True, "wrap"), (False, "constant")])
@pytest.mark.parametrize("width", [0.7, 2.0])
def test_slices_are_made_by_a_gaussian_filter(width, periodic, mode):
    """Which at the ends of an axis that is not periodic is one over the slices that are there."""
    line = np.random.default_rng(0).standard_normal(30)
    expected, share = (
        ndimage.gaussian_filter1d(values, width, mode=mode, truncate=7) for values in (line, np.ones(30))
    )
    assert np.abs(kernel(width, 30, periodic=periodic) @ line - expected / share).max() < 1e-6


@pytest.mark.parametrize("periodic", [True, False])
def test_width_zero_is_the_identity(periodic):
    assert np.array_equal(kernel(0.0, 8, periodic=periodic), np.eye(8))


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("width", [0.5, 1.0, 3.0])
def test_the_norm_of_a_row_is_what_is_left_of_the_noise(width, periodic):
    noise, weights = np.random.default_rng(0).standard_normal((64, 20_000)), kernel(width, 64, periodic=periodic)
    assert (weights @ noise).std(axis=1) == pytest.approx(np.linalg.norm(weights, axis=1), rel=0.03)


@pytest.mark.parametrize("width", [0.5, 2.0])
def test_the_kernel_is_centred_and_sums_to_one(width):
    kernel = gaussian(width, 16)
    assert kernel.sum() == pytest.approx(1)
    assert kernel.argmax() == 0
    assert np.allclose(kernel[1:], kernel[1:][::-1])


@pytest.mark.parametrize("n", [12, 15])
@pytest.mark.parametrize("sigma", [0.3, 3.0, 30.0])
def test_calibration_is_the_best_fit_over_all_modes(n, sigma):
    """Against a search that takes every mode of the full grid and solves for the gain with a least-squares routine."""
    autocovariance = covariance_of(3.0, n)
    r = np.minimum(np.arange(n), n - np.arange(n))

    def spectrum(*axes):
        distance = np.linalg.norm(np.meshgrid(*axes, indexing="ij"), axis=0)
        return np.fft.fftn(np.interp(distance, np.arange(n), autocovariance, right=0)).real

    volume, flat = spectrum(r, r, r), spectrum(r, r)
    volume, flat = np.maximum(volume, 1e-6), np.maximum(flat, 1e-6)
    root = np.sqrt(volume + sigma**2).ravel()
    exact = (volume / (volume + sigma**2)).ravel()
    fits = {}
    for width in (0.0, 0.5, 0.7, 1.0, 1.3, 1.6, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0):
        h = gaussian(width, n)
        across, within = np.fft.fft(h).real, flat / (flat + sigma**2 * (h**2).sum())
        mean = (
            within[None] * across[:, None, None] + within[:, None] * across[:, None] + within[..., None] * across
        ) / 3
        solution, residual, *_ = np.linalg.lstsq((root * mean.ravel())[:, None], root * exact, rcond=None)
        fits[width] = (residual.item(), solution.item())
    best = min(fits, key=lambda width: fits[width][0])
    model = GaussianModel(autocovariance, n)
    assert model.width(sigma) == best
    assert model.gain(sigma, three_planes(sigma, best)) == pytest.approx(fits[best][1], rel=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_thinner_slices_come_with_their_own_gain(share):
    """The mean of the planes, times the gain, explains all of the exact answer that one number can."""
    n, sigma = 16, 3.0
    model = GaussianModel(covariance_of(3.0, n), n)
    width = share * model.width(sigma)
    noise = np.random.default_rng(0).standard_normal((200, n, n, n))
    r = np.minimum(np.arange(n), n - np.arange(n))
    distance = np.linalg.norm(np.meshgrid(r, r, r, indexing="ij"), axis=0)
    volume = np.maximum(np.fft.fftn(np.interp(distance, np.arange(n), covariance_of(3.0, n), right=0)).real, 1e-6)
    flat = np.maximum(np.fft.fft2(np.interp(distance[0], np.arange(n), covariance_of(3.0, n), right=0)).real, 1e-6)
    noisy = np.fft.fftn(noise, axes=(1, 2, 3)) * np.sqrt(volume + sigma**2)
    kernel = gaussian(width, n)
    across, within = np.fft.fft(kernel).real, flat / (flat + sigma**2 * (kernel**2).sum())
    planes = (within[None] * across[:, None, None] + within[:, None] * across[:, None] + within[..., None] * across) / 3
    mean, exact = planes * noisy, volume / (volume + sigma**2) * noisy
    assert model.gain(sigma, three_planes(sigma, width)) == pytest.approx(
        (mean * exact.conj()).real.sum() / (np.abs(mean) ** 2).sum(), rel=0.01
    )


def test_slices_get_thinner_as_the_noise_goes():
    model = GaussianModel(covariance_of(5.0, 33), 64)
    widths = [model.width(sigma) for sigma in (0.1, 0.5, 1.5, 6.0, 30.0)]
    assert widths[0] == 0
    assert widths == sorted(widths)
    assert widths[-1] > 2


@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
def test_the_gain_knows_what_was_seen_earlier(kept):
    """Of two planes that were denoised at more noise, of which the volume has kept a part; by drawing fields."""
    n, sigma, earlier = 16, 2.0, 4.0
    model = GaussianModel(covariance_of(3.0, n), n)
    looks = [Look(0, sigma, 1.0, 1.0, 1 / 3), Look(1, earlier, 1.5, kept, 1 / 3), Look(2, earlier, 1.5, kept, 1 / 3)]
    rng = np.random.default_rng(0)
    r = np.minimum(np.arange(n), n - np.arange(n))
    distance = np.linalg.norm(np.meshgrid(r, r, r, indexing="ij"), axis=0)
    volume = np.maximum(np.fft.fftn(np.interp(distance, np.arange(n), covariance_of(3.0, n), right=0)).real, 1e-6)
    flat = np.maximum(np.fft.fft2(np.interp(distance[0], np.arange(n), covariance_of(3.0, n), right=0)).real, 1e-6)
    fields, before, fresh = (np.fft.fftn(rng.standard_normal((300, n, n, n)), axes=(1, 2, 3)) for _ in range(3))
    fields *= np.sqrt(volume)
    noisy = {earlier: fields + earlier * before, sigma: fields + sigma * (kept * before + np.sqrt(1 - kept**2) * fresh)}
    mean = 0
    for look in looks:
        h = gaussian(look.width, n)
        within = np.expand_dims(flat / (flat + look.sigma**2 * (h**2).sum()), look.axis)
        across = np.fft.fft(h).real.reshape([-1 if axis == look.axis else 1 for axis in range(3)])
        mean = mean + within * across * noisy[look.sigma] / 3
    exact = volume / (volume + sigma**2) * noisy[sigma]
    assert model.gain(sigma, looks) == pytest.approx(
        (mean * exact.conj()).real.sum() / (np.abs(mean) ** 2).sum(), rel=0.01
    )
