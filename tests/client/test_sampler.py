"""The sampling loop, with denoisers whose answer is known in closed form."""

import dataclasses
import time
import tracemalloc

import numpy as np
import pytest

from mdiff_client.sampling import PLANS, Anchor, Condition, Plane, sample
from mdiff_client.sampling.anchors import Anchors
from mdiff_client.sampling.noise import Noise, Purpose
from mdiff_core import Descriptors, PermanentError, Phase, UnavailableError, UsageError
from mdiff_core.contract import PLANES

FIELD = {"tilt": False, "clip": False}  # a Gaussian field is neither two-phase nor bounded


FAST = PLANS["fast"]
AVERAGED = dataclasses.replace(FAST, planes="average", eta=0.0, harmonize=1, thick_slices=1.0)


def gaussian_plan(plan, **changes):
    return dataclasses.replace(plan, **FIELD, **changes)


def algorithm_1(denoiser, timesteps, betas, n_h, noise):
    """Micro3Diff's Algorithm 1 on a cube; its t = n_T … 1 are the indices n_T - 1 … 0 here.

    Lines 7 and 10, each with noise of its own, are drawn as one of their joint variance.
    """
    n = denoiser.contract.image_size[0]
    alpha_bar = np.cumprod(1 - betas)
    x = noise.normal(Purpose.START, 0, 0, (1, n, n, n))[0].astype(float)
    for i in reversed(range(len(betas))):
        plane = i % 3
        slices = np.moveaxis(x, plane, 0)
        for t_h in range(1, n_h + 1):
            z = np.moveaxis(noise.normal(Purpose.REVERSE, i, t_h - 1, (1, n, n, n))[0], plane, 0)
            eps = denoiser.predict(slices[:, None].astype(np.float32), np.full(n, timesteps[i]))[0][:, 0]
            mean = (slices - betas[i] / np.sqrt(1 - alpha_bar[i]) * eps) / np.sqrt(1 - betas[i])
            if t_h < n_h and i > 0:
                slices = np.sqrt(1 - betas[i]) * mean + np.sqrt((1 - betas[i]) * betas[i] + betas[i]) * z
            else:
                slices = mean + np.sqrt(betas[i]) * z if i > 0 else mean
        x = np.moveaxis(slices, 0, plane)
    return x


@pytest.mark.parametrize(("steps", "n_h"), [(None, 1), (None, 3), (12, 4)])
def test_the_papers_plan_is_algorithm_1(make_gaussian, steps, n_h):
    denoiser = make_gaussian(n=8, timesteps=40)
    plan = dataclasses.replace(PLANS["paper"], steps=steps, harmonize=n_h)
    schedule = plan.schedule(denoiser.contract.schedule.build())
    expected = algorithm_1(denoiser, schedule.timesteps, schedule.beta, n_h, Noise(5, 2))
    assert np.abs(sample(denoiser, plan, seed=5, volume=2)[0] - expected).max() < 1e-3


@pytest.mark.parametrize("plan", [AVERAGED, FAST], ids=["averaged", "lagged"])
def test_a_volume_depends_on_seed_and_number_only(gaussian, plan):
    plan = gaussian_plan(plan, steps=4)
    first = sample(gaussian, plan, seed=1, volume=3)
    sample(gaussian, plan, seed=1, volume=0)
    assert np.array_equal(sample(gaussian, plan, seed=1, volume=3), first)
    assert not np.array_equal(sample(gaussian, plan, seed=1, volume=4), first)
    assert not np.array_equal(sample(gaussian, plan, seed=2, volume=3), first)


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_costs_what_it_says(gaussian, name):
    plan = gaussian_plan(PLANS[name], steps=6)
    seen = []
    sample(gaussian, plan, seed=0, on_evaluation=lambda: seen.append(1))
    evaluations = plan.evaluations(gaussian.contract.schedule.build())
    assert len(seen) == evaluations
    assert gaussian.batches == [32] * evaluations


def wrap_ratio(volume, axis):
    """Mismatch across the wrap face over the mismatch between neighbours inside."""
    slices = np.moveaxis(volume, axis, 0)
    return np.abs(slices[0] - slices[-1]).mean() / np.abs(slices[1:] - slices[:-1]).mean()


@pytest.mark.parametrize("size", [(32, 32, 32), (40, 64, 32)])
@pytest.mark.parametrize("periodic", ["zyx", "y", ""])
def test_opposite_faces_match_along_the_periodic_axes(make_gaussian, size, periodic):
    plan = gaussian_plan(AVERAGED, steps=10, size=size, periodic=periodic)
    volume = sample(make_gaussian(n=32, periodic=False), plan, seed=0)[0]
    assert volume.shape == size
    for axis, name in enumerate("zyx"):
        ratio = wrap_ratio(volume, axis)
        assert ratio == pytest.approx(1, abs=0.2) if name in periodic else ratio > 2


def test_a_volume_of_many_tiles_has_the_covariance_of_one(make_gaussian):
    """And no seam: no two neighbouring slices differ more than others do."""
    denoiser = make_gaussian(n=32, periodic=False)
    small, large = (
        sample(denoiser, gaussian_plan(AVERAGED, steps=15, size=size), seed=0)[0]
        for size in [(32, 32, 32), (96, 80, 64)]
    )
    assert large.var() == pytest.approx(small.var(), rel=0.15)
    for axis in range(3):
        slices = np.moveaxis(large, axis, 0)
        steps = np.abs(np.diff(slices, axis=0)).mean(axis=(1, 2))
        assert steps.max() < 1.2 * np.median(steps)


def test_a_volume_smaller_than_an_image_is_refused(gaussian):
    with pytest.raises(UsageError, match="64x16x64: model gaussian knows images of 32 pixels, and no part of one"):
        sample(gaussian, gaussian_plan(AVERAGED, size=(64, 16, 64)), seed=0)


@pytest.mark.parametrize("size", [(16, 16, 16), (20, 33, 16)])
@pytest.mark.parametrize("plan", [AVERAGED, FAST], ids=["averaged", "lagged"])
def test_calls_at_once_change_nothing(make_gaussian, plan, size):
    """Nor does the order in which they are answered."""
    volumes = []
    for calls in (1, 4):
        denoiser = make_gaussian(n=16)
        denoiser.calls_at_once, answer, wait = calls, denoiser.predict, np.random.default_rng(calls)

        def predict(x, t, label=None, fractions=None, answer=answer, wait=wait):
            time.sleep(wait.uniform(0, 0.005))
            return answer(x, t, label, fractions)

        denoiser.predict = predict
        volumes.append(sample(denoiser, gaussian_plan(plan, steps=4, size=size), seed=0))
    assert np.array_equal(*volumes)


def test_memory_is_four_volumes_and_what_is_in_flight(make_gaussian):
    """x_t and the three planes; two sizes tell what grows from what does not, but for slabs that are cut otherwise."""
    peaks, sizes = [], [(48, 96, 96), (144, 96, 96)]
    for size in sizes:
        denoiser, plan = make_gaussian(n=32), gaussian_plan(FAST, steps=2, harmonize=1, size=size)
        denoiser.batches = denoiser.asked = []  # are kept otherwise
        tracemalloc.start()
        sample(denoiser, plan, seed=0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] <= 4.5 * 4 * (np.prod(sizes[1]) - np.prod(sizes[0]))


def test_planes_are_asked_in_their_ratio(make_gaussian):
    denoiser = make_gaussian(n=8)
    denoiser.contract = dataclasses.replace(
        denoiser.contract, classes=("z", "y", "x"), planes={plane: label for label, plane in enumerate(PLANES)}
    )
    plan = gaussian_plan(FAST, steps=13, harmonize=1, planes="alternate", ratio=(1, 2, 3), spacing="uniform")
    sample(denoiser, plan, seed=0)
    labels = [int(label[0]) for label, _ in denoiser.asked]
    assert [labels.count(plane) for plane in range(3)] == pytest.approx([13 / 6, 26 / 6, 39 / 6], abs=1)
    assert {plane for plane in labels[:4]} == {0, 1, 2}


def test_the_ratio_weighs_the_mean_of_the_planes(make_pixels):
    """Of planes whose pixels are -0.5, 0.5 and 0.25 the mean is theirs."""
    denoiser = make_pixels(n=8)
    planes = [Plane(denoiser, label) for label in (0, 1, 2)]
    plan = gaussian_plan(AVERAGED, thick_slices=0.0, steps=20, ratio=(1, 2, 1))
    assert sample(planes, plan, seed=0).mean() == pytest.approx((-0.5 + 2 * 0.5 + 0.25) / 4, abs=0.05)


def test_the_tilt_holds_the_reference_fraction(make_gaussian, two_phase_references):
    denoiser = make_gaussian(n=16)
    curves = two_phase_references(0.2, denoiser.contract.references["sphere"].s2)
    denoiser.contract = dataclasses.replace(denoiser.contract, references=curves)
    volume = sample(denoiser, dataclasses.replace(AVERAGED, steps=5), seed=0)
    assert (volume > 0).mean() == pytest.approx(0.2, abs=1e-3)


@pytest.fixture
def three_phases(make_gaussian):
    """Three channels, each a Gaussian field of its own, for phases of fraction .5, .3 and .2."""
    denoiser = make_gaussian(n=16)
    covariance = np.array(denoiser.contract.references["sphere"].s2) - 0.25
    phases, references = (Phase("pore", 0), Phase("active", 128), Phase("binder", 255)), {}
    for phase, fraction in zip(phases, (0.5, 0.3, 0.2), strict=True):
        s2 = tuple((fraction**2 + 4 * fraction * (1 - fraction) * covariance).tolist())
        references[phase.name] = Descriptors(fraction, 0.1, s2, s2)
    denoiser.contract = dataclasses.replace(denoiser.contract, channels=3, phases=phases, references=references)
    return denoiser


def test_the_tilt_holds_the_fractions_of_three_phases(three_phases):
    volume = sample(three_phases, dataclasses.replace(FAST, steps=5), seed=0)
    assert volume.shape == (3, 16, 16, 16)
    shares = np.bincount(volume.argmax(axis=0).ravel(), minlength=3) / 16**3
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=2e-3)


def test_the_gain_is_about_the_mean_of_each_phases_channel(three_phases):
    """What is predicted to be its mean everywhere stays so, whatever the gain."""
    means = 2 * np.array([0.5, 0.3, 0.2], np.float32)[:, None, None] - 1

    def predict(x, t, label=None, fractions=None):
        a = three_phases.alpha_bar[t][:, None, None, None].astype(np.float32)
        return (x - np.sqrt(a) * means) / np.sqrt(1 - a), None

    three_phases.predict = predict
    volume = sample(three_phases, gaussian_plan(AVERAGED, steps=8), seed=0)
    assert np.abs(volume - means[..., None]).max() < 1e-3


def test_a_plan_that_needs_the_reference_says_so(gaussian):
    gaussian.contract = dataclasses.replace(gaussian.contract, references={})
    with pytest.raises(UsageError, match="--plan plain"):
        sample(gaussian, AVERAGED, seed=0)


def test_images_that_are_not_square_make_no_cube(gaussian):
    gaussian.contract = dataclasses.replace(gaussian.contract, image_size=(32, 16))
    with pytest.raises(UsageError, match="square"):
        sample(gaussian, PLANS["paper"], seed=0)


def test_the_tilt_holds_the_fraction_that_is_asked_for(make_gaussian):
    denoiser = make_gaussian(n=16)
    denoiser.contract = dataclasses.replace(denoiser.contract, fractions=((0.1, 0.9),))
    plan = dataclasses.replace(AVERAGED, steps=5)
    volume = sample(denoiser, plan, seed=0, condition=Condition(fractions=(0.2,)))
    assert (volume > 0).mean() == pytest.approx(0.2, abs=1e-3)
    assert {told.tobytes() for _, told in denoiser.asked} == {np.full((16, 1), 0.2, np.float32).tobytes()}


def test_slices_are_calibrated_for_the_fraction_that_is_asked_for(make_gaussian, two_phase_references):
    """As if the reference had that fraction, and its autocovariance f(1 - f) were as large as such a material's is."""
    told, own = make_gaussian(n=16), make_gaussian(n=16)
    covariance = np.array(own.contract.references["sphere"].s2) - 0.5**2
    s2 = tuple((0.2**2 + covariance * 0.16 / 0.25).tolist())
    own.contract = dataclasses.replace(own.contract, references=two_phase_references(0.2, s2))
    plan = gaussian_plan(AVERAGED, steps=6)
    expected = sample(own, plan, seed=0)
    assert np.allclose(sample(told, plan, seed=0, condition=Condition(fractions=(0.2,))), expected, atol=1e-4)
    assert not np.allclose(sample(told, plan, seed=0), expected, atol=0.01)


def test_each_plane_is_asked_for_its_own_class(make_gaussian):
    denoiser = make_gaussian(n=8)
    denoiser.contract = dataclasses.replace(
        denoiser.contract, classes=("across", "along"), planes={"xy": 0, "xz": 1, "yz": 1}
    )
    sample(denoiser, gaussian_plan(AVERAGED, steps=2, harmonize=1), seed=0)
    assert [label.tolist() for label, _ in denoiser.asked] == 2 * [[0] * 8, [1] * 8, [1] * 8]


def test_a_guided_volume_asks_each_slice_with_its_condition_and_without(make_gaussian):
    denoiser = make_gaussian(n=8)
    denoiser.contract = dataclasses.replace(denoiser.contract, classes=("fine", "coarse"), null_class=2)
    sample(denoiser, gaussian_plan(PLANS["paper"], steps=1, harmonize=1), seed=0, condition=Condition(1, guidance=3.0))
    assert [label.tolist() for label, _ in denoiser.asked] == [[1] * 8 + [2] * 8]


@pytest.mark.parametrize("calls", [1, 4])
def test_the_first_failure_ends_the_pass(make_gaussian, calls):
    """A server that is away is not waited for once for each of a large volume's slabs."""
    denoiser = make_gaussian(n=8)
    denoiser.calls_at_once, asked = calls, []

    def predict(x, t, label=None, fractions=None):
        asked.append(len(x))
        raise UnavailableError("away")

    denoiser.predict = predict
    with pytest.raises(UnavailableError, match="away"):
        sample(denoiser, gaussian_plan(FAST, size=(200, 64, 64)), seed=0)
    assert len(asked) <= calls


def test_an_answer_that_is_no_number_is_an_error(make_gaussian):
    denoiser = make_gaussian(n=8)
    denoiser.predict = lambda x, t, label=None, fractions=None: (np.full_like(x, np.nan), None)
    with pytest.raises(PermanentError, match="no numbers"):
        sample(denoiser, FAST, seed=0)


class TestAnchors:
    @pytest.fixture
    def measured(self, make_gaussian):
        """Three slices of a field of the same kind, one for each axis."""
        field = sample(make_gaussian(n=16), gaussian_plan(FAST), seed=9)
        return [Anchor(axis, 5 + axis, np.take(field, 5 + axis, axis + 1)) for axis in range(3)]

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_the_volume_contains_the_slice(self, make_gaussian, measured, axis):
        volume = sample(make_gaussian(n=16), gaussian_plan(FAST), seed=0, anchors=[measured[axis]])
        assert np.array_equal(np.take(volume, 5 + axis, axis + 1), measured[axis].x0)

    def test_its_neighbours_connect(self, make_gaussian, measured):
        """Its mismatch to them is that of other neighbours; unspread it is 1.5 times that."""
        plan = gaussian_plan(FAST)
        volumes = [sample(make_gaussian(n=16), plan, seed=0, volume=v, anchors=measured[:1])[0] for v in range(4)]
        steps = np.abs(np.diff(volumes, axis=1)).mean(axis=(0, 2, 3))
        assert steps[4:6].mean() < 1.2 * np.delete(steps, [4, 5]).mean()

    def test_several_are_honoured_at_once(self, make_gaussian, measured):
        volume = sample(make_gaussian(n=16), gaussian_plan(FAST), seed=0, anchors=measured)
        for axis, anchor in enumerate(measured):
            assert (np.take(volume, 5 + axis, axis + 1) == anchor.x0).mean() > 0.85  # the others cross it
        assert not np.array_equal(volume, sample(make_gaussian(n=16), gaussian_plan(FAST), seed=0))

    def test_crossing_ones_are_counted_once(self, make_gaussian):
        """Of a prediction of 0 everywhere, two planes of 0.5 make no voxel more than that."""
        anchors = [Anchor(axis, 5, np.full((1, 16, 16), 0.5, np.float32)) for axis in (0, 1)]
        fixed, correlation = Anchors(anchors, (1, 16, 16, 16), ""), np.array([1.0, 0.9, 0.6, 0.3, 0.1])
        fixed.compare(lambda place: np.zeros((1, 16, 16, 16), np.float32)[(slice(None), *place)], correlation)
        x0 = np.zeros((1, 16, 16, 16), np.float32)
        fixed.apply(x0, 0)
        assert x0.max() == pytest.approx(0.5, abs=0.06)
        assert x0[0, 5].min() == x0[0, :, 5].min() == 0.5

    def test_two_at_one_place_are_refused(self, make_gaussian, measured):
        with pytest.raises(UsageError, match="anchor z=5: two slices"):
            sample(make_gaussian(n=16), gaussian_plan(FAST), seed=0, anchors=[measured[0], measured[0]])

    @pytest.mark.parametrize(
        ("axis", "index", "shape", "complaint"),
        [
            (0, 16, (1, 16, 16), "anchor z=16: the volume has 16 slices there"),
            (1, 3, (1, 16, 8), "an anchor normal to y has 16x16 pixels in this volume, not 16x8"),
        ],
    )
    def test_one_that_does_not_fit_is_refused(self, make_gaussian, axis, index, shape, complaint):
        with pytest.raises(UsageError, match=complaint):
            sample(
                make_gaussian(n=16),
                gaussian_plan(FAST),
                seed=0,
                anchors=[Anchor(axis, index, np.zeros(shape, np.float32))],
            )
