"""What a sampling plan makes of a Gaussian random field, in closed form, as docs/method.md reports it; prints Markdown.

    python benchmarks/gaussian_fields.py docs/method-gaussian.png

For a Gaussian field the exact denoisers of the volume and of its slices are linear and diagonal in Fourier space, and
so is every step of the sampler without tilt and clip. Each mode's variance then follows a recursion: nothing is sampled
here. tests/client/test_gaussian_fields.py holds the real sampler to it. The picture needs matplotlib: pip install -e
'.[docs]'.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from mdiff_client.sampling import PLANS, SamplingPlan
from mdiff_client.sampling.calibration import slice_thicknesses
from mdiff_client.sampling.thick_slices import PLAIN, GaussianModel, Look, Thickness, gaussian
from mdiff_core import NoiseSchedule
from mdiff_core.command import run_app

Floats = npt.NDArray[np.float64]
TRAINING = NoiseSchedule.linear(1000)
_MEAN, _BEFORE, _X = 3, 4, 5  # in the state, after the planes' predictions


@dataclass(frozen=True)
class GaussianField:
    """The isotropic Gaussian field of zero mean and covariance ``covariance(r)``, periodic on n³ voxels.

    Even in every axis, a spectrum is held on one octant, [n // 2 + 1] along each axis.
    """

    n: int
    covariance: Callable[[Floats], Floats]

    @cached_property
    def distance(self) -> Floats:
        """From the origin [n, n, n], voxels."""
        r = np.minimum(np.arange(self.n), self.n - np.arange(self.n)).astype(float)
        return np.sqrt(r[:, None, None] ** 2 + r[:, None] ** 2 + r**2)

    @property
    def curve(self) -> Floats:
        """C(r) at r = 0, 1 … n // 2: what a contract's S2 tells of the field."""
        return self.covariance(np.arange(self.n // 2 + 1.0))

    @cached_property
    def volume(self) -> Floats:
        """λ₃, the spectrum of the field; what its periodic covariance makes negative is zero."""
        octant = (slice(self.n // 2 + 1),) * 3
        return np.maximum(np.fft.fftn(self.covariance(self.distance)).real, 0)[octant]

    @cached_property
    def slice(self) -> Floats:
        """λ₂ of a slice: the mean of λ₃ across it."""
        return self.unfolded(self.volume).mean(axis=0)[: self.n // 2 + 1, : self.n // 2 + 1]

    def unfolded(self, octant: Floats) -> Floats:
        """A spectrum on the full grid [n, n, n]."""
        k = np.minimum(np.arange(self.n), self.n - np.arange(self.n))
        return octant[np.ix_(k, k, k)]

    def variance(self, spectrum: Floats) -> float:
        """Of a voxel of the field that has this spectrum."""
        return float(self.unfolded(spectrum).mean())

    def error(self, spectrum: Floats) -> float:
        """Of the covariance that belongs to a spectrum: relative L2 norm over shells r = 0, 1 … n/2 - 1, per cent."""
        off, exact = (self.radial(np.fft.ifftn(self.unfolded(of)).real) for of in (spectrum - self.volume, self.volume))
        return float(100 * np.linalg.norm(off) / np.linalg.norm(exact))

    def radial(self, full: Floats) -> Floats:
        """Mean over shells of radius 0, 1 … n/2 - 1 and thickness 1."""
        shell = self.distance.round().astype(int).ravel()
        return (np.bincount(shell, full.ravel()) / np.bincount(shell))[: self.n // 2]

    def exact_answer(self, sigma: float) -> Floats:
        """The 3D denoiser: x̂₀ = λ₃ / (λ₃ + σ²) · y, y the field with noise σ."""
        return self.volume / (self.volume + sigma**2)

    def plane_answer(self, axis: int, sigma: float, width: float = 0.0) -> Floats:
        """The 2D denoiser along one axis, of slices that are smoothed over ``width`` voxels: what it multiplies y by.

        It is asked at the step of the training schedule that is nearest in noise.
        """
        h = gaussian(width, self.n)
        asked = np.abs(np.log(TRAINING.sigma / (sigma * np.sqrt((h**2).sum())))).argmin()
        across = np.fft.rfft(h).real.reshape([-1 if a == axis else 1 for a in range(3)])
        return across * np.expand_dims(self.slice / (self.slice + TRAINING.sigma[asked] ** 2), axis)


def sampled_spectrum(field: GaussianField, plan: SamplingPlan, exact: bool = False) -> Floats:
    """The spectrum of what a plan samples of a field, [n // 2 + 1] along each axis.

    The state of a mode is the planes' predictions, their mean, that of the step before, and x, all Gaussian. Their
    covariances follow from step to step.

    Args:
        field: what there is to sample.
        plan: its tilt and clip are left out: they are not linear.
        exact: ask the 3D denoiser in place of the slices'.
    """
    schedule = plan.schedule(TRAINING)
    thicknesses = slice_thicknesses(GaussianModel(field.curve, field.n), plan, TRAINING)
    state = np.zeros((6, 6, *field.volume.shape))
    state[_X, _X] = 1
    alone, taken = plan.planes in ("turn", "alternate"), itertools.count()
    for i in reversed(range(len(schedule))):
        sigma, scale = schedule.sigma[i].item(), schedule.alpha_bar[i].item() ** -0.5
        passes = plan.passes(sigma)
        for repeat in range(passes):
            number = next(taken)
            thickness = thicknesses[number] if plan.thick_slices and not exact else PLAIN
            turn = (i if plan.planes == "turn" else number) % 3
            everything = plan.planes == "average" or (plan.planes == "lagged" and number == 0)
            for axis in range(3) if everything else [turn]:
                answer = field.exact_answer(sigma) if exact else field.plane_answer(axis, sigma, thickness.width)
                _put(state, axis, {_X: scale * answer})
            share = thickness.gain / (1 if alone else 3)
            _put(state, _MEAN, dict.fromkeys([turn] if alone else range(3), share))
            weights, variance = _reverse_step(plan, schedule, i)
            _put(state, _X, weights, variance)
            if repeat + 1 < passes and i > 0:
                beta = schedule.beta[i].item()
                _put(state, _X, {_X: (1 - beta) ** 0.5}, beta)
            else:
                _put(state, _BEFORE, {_MEAN: 1.0})
    return state[_X, _X]


def _put(state: Floats, place: int, weights: Mapping[int, float | Floats], variance: float = 0.0) -> None:
    """Make one variable of the state a weighted sum of others, and independent noise of this variance."""
    row = sum((weight * state[other] for other, weight in weights.items()), np.zeros_like(state[0]))
    own = sum((weight * row[other] for other, weight in weights.items()), variance + np.zeros_like(state[0, 0]))
    state[place] = row
    state[:, place] = row
    state[place, place] = own


def _reverse_step(plan: SamplingPlan, schedule: NoiseSchedule, i: int) -> tuple[dict[int, float], float]:
    """Weights of the state in x_{t-1}, and the variance of the noise that is added."""
    alpha_bar, previous = schedule.alpha_bar[i].item(), schedule.alpha_bar_previous[i].item()
    if plan.sampler == "ddpm":
        beta = schedule.beta[i].item()
        of_x = (1 - beta) ** 0.5 * (1 - previous) / (1 - alpha_bar)
        return {_X: of_x, _MEAN: previous**0.5 * beta / (1 - alpha_bar)}, beta if i > 0 else 0.0
    eta = plan.eta if plan.sampler == "ddim" else 0.0
    variance = eta**2 * schedule.posterior_variance[i].item()
    below, churn = plan.churn
    if plan.sampler == "ddim" and i > 0 and schedule.sigma[i] < below:
        # Of the noise at the end of the step, what is not kept of that at its start is new.
        variance = (1 - previous) * (1 - (schedule.sigma[i - 1] / schedule.sigma[i]).item() ** (2 * churn))
    of_x = (max(0.0, 1 - previous - variance) / (1 - alpha_bar)) ** 0.5
    of_x0, ahead = previous**0.5 - of_x * alpha_bar**0.5, 0.0
    if plan.sampler == "dpm-solver++" and 0 < i < len(schedule) - 1:
        log_sigma = np.log(schedule.sigma)
        ahead = ((log_sigma[i] - log_sigma[i - 1]) / (log_sigma[i + 1] - log_sigma[i])).item() / 2
    return {_X: of_x, _MEAN: (1 + ahead) * of_x0, _BEFORE: -ahead * of_x0}, variance


def limit(field: GaussianField, passes: float) -> Floats:
    """What slices as they are lead to in infinitely many steps with planes in turn.

    Args:
        field: what there is to sample.
        passes: n_h of ancestral sampling; 0: no noise is added (DDIM, η = 0).
    """
    planes = [np.expand_dims(np.maximum(field.slice, _NOTHING), axis) for axis in range(3)]
    if passes == 0:
        return np.prod(np.broadcast_arrays(*planes), axis=0) ** (1 / 3)
    if passes == np.inf:
        return 3 / sum(1 / plane for plane in planes)
    log_tau = np.linspace(-25, 20, 1000)
    decay = (np.exp(log - 2 / 3 * passes * sum(np.log1p(np.exp(log) / plane) for plane in planes)) for log in log_tau)
    return (2 * passes - 1) * (log_tau[1] - log_tau[0]) * sum(decay)


FIELDS = {
    "exp(−r²/50)": GaussianField(64, lambda r: np.exp(-(r**2) / 50)),
    "exp(−r/5)": GaussianField(64, lambda r: np.exp(-r / 5)),
}
SHOWN = FIELDS["exp(−r²/50)"]
_NOTHING = 1e-12
_TURN = dataclasses.replace(PLANS["paper"], steps=300, harmonize=1)
_PLAIN = dataclasses.replace(_TURN, steps=20, spacing="geometric", planes="average", sampler="ddim", eta=0.0)
_TWENTY = dataclasses.replace(_PLAIN, thick_slices=1.0)
ROWS = {
    "planes in turn, DDPM, 20 steps": dataclasses.replace(_TURN, steps=20),
    "planes in turn, DDPM, 300 steps": _TURN,
    "the same with 10 harmonizing passes": dataclasses.replace(_TURN, harmonize=10),
    "plan `paper`: 1000 steps, 10 passes": PLANS["paper"],
    "planes averaged, 20 steps": _PLAIN,
    "planes averaged, 60 steps": dataclasses.replace(_PLAIN, steps=60),
    "thick slices, calibrated, 20 steps": _TWENTY,
    "thick slices, calibrated, 60 steps": dataclasses.replace(_TWENTY, steps=60),
    "the same at 0.6 of the width, 20 steps": dataclasses.replace(_TWENTY, thick_slices=0.6),
    "thick slices, calibrated, lagged, 20 steps": dataclasses.replace(_TWENTY, planes="lagged"),
    "thick slices, calibrated, DPM-Solver++, 20 steps": dataclasses.replace(_TWENTY, sampler="dpm-solver++"),
    **{f"plan `{name}`": plan for name, plan in PLANS.items() if name != "paper"},
}
EXACT_ROWS = {
    "**exact 3D denoiser**, 20 steps": _TWENTY,
    "**exact 3D denoiser**, 60 steps": dataclasses.replace(_TWENTY, steps=60),
    "**exact 3D denoiser**, lagged, 20 steps": dataclasses.replace(_TWENTY, planes="lagged"),
    "**exact 3D denoiser**, DPM-Solver++, 20 steps": dataclasses.replace(_TWENTY, sampler="dpm-solver++"),
    "**exact 3D denoiser**, DDPM, 300 steps": _TURN,
}


def main(picture: Annotated[Path, typer.Argument(help="PNG to draw.")]) -> None:
    """Print the tables and draw the picture of docs/method.md."""
    print("Noise at which half of the longest wave is recognised: " + _recognition() + "\n")
    _table("limit of infinitely many steps", {name: (None, of) for name, of in _limits().items()})
    for name, field in FIELDS.items():
        _calibration_table(name, field)
    spectra = {
        name: (
            None if exact else plan.evaluations(TRAINING),
            [sampled_spectrum(field, plan, exact) for field in FIELDS.values()],
        )
        for rows, exact in ((ROWS, False), (EXACT_ROWS, True))
        for name, plan in rows.items()
    }
    _table("plan", spectra)
    print("Covariance error % with DPM-Solver++ in 20 steps, exp(−r²/18): " + _small_field())
    _draw(picture, SHOWN, {name: of[0] for name, (_, of) in spectra.items()})


def _small_field() -> str:
    """Its longest wave is far below the noise that sampling starts with."""
    field = GaussianField(64, lambda r: np.exp(-(r**2) / 18))
    plan = ROWS["thick slices, calibrated, DPM-Solver++, 20 steps"]
    slices, exact = (field.error(sampled_spectrum(field, plan, exact)) for exact in (False, True))
    return f"{slices:.1f} with slices, {exact:.1f} with the exact 3D denoiser"


def _recognition() -> str:
    return "; ".join(
        f"{name}: {np.sqrt(field.volume[0, 0, 0]):.1f} in 3D, {np.sqrt(field.slice[0, 0]):.1f} in a slice"
        for name, field in FIELDS.items()
    )


def _limits() -> dict[str, list[Floats]]:
    of = {"DDIM, η = 0": 0, "ancestral (DDPM)": 1, "10 harmonizing passes": 10, "endless passes": np.inf}
    return {name: [limit(field, passes) for field in FIELDS.values()] for name, passes in of.items()}


def _table(title: str, rows: Mapping[str, tuple[int | None, list[Floats]]]) -> None:
    counted = any(evaluations for evaluations, _ in rows.values())
    heads = [title, *(["evaluations"] if counted else [])]
    heads += [f"{of} {name}" for name in FIELDS for of in ("variance,", "covariance error %,")]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for name, (evaluations, spectra) in rows.items():
        cells = [name, *([str(evaluations or "")] if counted else [])]
        for field, spectrum in zip(FIELDS.values(), spectra, strict=True):
            cells += [f"{field.variance(spectrum):.2f}", f"{field.error(spectrum):.1f}"]
        print("| " + " | ".join(cells) + " |")
    print()


def _calibration_table(name: str, field: GaussianField) -> None:
    model = GaussianModel(field.curve, field.n)
    print(f"| {name}: σ | width | gain | unexplained % | plain slices, best gain | plain slices |\n" + "|---" * 6 + "|")
    for sigma in (30.0, 12.0, 6.0, 3.0, 1.5, 0.7, 0.3):
        best, plain = (_thickness(model, sigma, width) for width in (model.width(sigma), 0.0))
        left = (_unexplained(field, sigma, thickness) for thickness in (best, plain, PLAIN))
        print(f"| {sigma:g} | {best.width:g} | {best.gain:.2f} | " + " | ".join(f"{of:.1f}" for of in left) + " |")
    print()


def _thickness(model: GaussianModel, sigma: float, width: float) -> Thickness:
    """Of three planes denoised now."""
    return Thickness(width, model.gain(sigma, [Look(axis, sigma, width, 1.0, 1 / 3) for axis in range(3)]))


def _unexplained(field: GaussianField, sigma: float, thickness: Thickness) -> float:
    """Power by which the planes' answer misses that of the 3D denoiser, per cent of the latter's."""
    power, exact = field.volume + sigma**2, field.exact_answer(sigma)
    miss = _planes_mean(field, sigma, thickness) - exact
    return 100 * field.variance(power * miss**2) / field.variance(power * exact**2)


def _planes_mean(field: GaussianField, sigma: float, thickness: Thickness) -> Floats:
    return thickness.gain / 3 * sum(field.plane_answer(axis, sigma, thickness.width) for axis in range(3))


def _draw(picture: Path, field: GaussianField, spectra: Mapping[str, Floats]) -> None:
    import matplotlib as mpl  # the tests need the theory, and no picture

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    sigmas, model = np.geomspace(1, 100, 60), GaussianModel(field.curve, field.n)
    longest = (0, 0, 0)
    for label, style, answer in (
        ("exact 3D denoiser", "k--", field.exact_answer),
        ("slices as they are", "C3", lambda sigma: _planes_mean(field, sigma, PLAIN)),
        (
            "thick slices, calibrated",
            "C0",
            lambda sigma: _planes_mean(field, sigma, _thickness(model, sigma, model.width(sigma))),
        ),
    ):
        left.plot(sigmas, [answer(sigma)[longest] for sigma in sigmas], style, label=label)
    left.set(xscale="log", xlim=(100, 1), xlabel="noise σ", ylim=(0, 1.1), ylabel="the longest wave's share in x̂₀")
    k = np.arange(field.n // 2 + 1) * 2 * np.pi / field.n
    shell = (np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2) * field.n / (2 * np.pi)).round().astype(int)
    for name, style in (
        ("planes in turn, DDPM, 300 steps", "C3"),
        ("the same with 10 harmonizing passes", "C1"),
        ("thick slices, calibrated, 60 steps", "C0"),
        ("**exact 3D denoiser**, 60 steps", "k--"),
    ):
        sampled, exact = (np.bincount(shell.ravel(), of.ravel()) for of in (spectra[name], field.volume))
        shown = slice(0, 10)
        right.plot(k[shown], sampled[shown] / exact[shown], style, label=name.replace("*", ""))
    right.axhline(1, color="0.8", zorder=0)
    right.set(yscale="log", xlabel="wavenumber k, 1/voxel", ylabel="sampled variance / λ₃")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=100)


if __name__ == "__main__":
    run_app(lambda: typer.run(main))
