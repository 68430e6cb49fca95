"""Epsilon against numbers that do not come from the library that computes it."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penname.privacy.accounting import calibrate_noise, compute_epsilon, compute_epsilon_rdp


def sampled(noise_multiplier, sampling_prob, num_steps=1):
    return {
        "type": "poisson_sampled_gaussian",
        "noise_multiplier": noise_multiplier,
        "l2_sensitivity": 1.0,
        "sampling_prob": sampling_prob,
        "num_steps": num_steps,
    }


def gaussian(noise_multiplier):
    return {"type": "gaussian", "noise_multiplier": noise_multiplier, "l2_sensitivity": 1.0}


def solve_epsilon(delta_of, delta):
    """The epsilon at which a falling delta_of(epsilon) meets delta, by halving."""
    low, high = 0.0, 1.0
    while delta_of(high) > delta:
        low, high = high, 2 * high
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of(middle) > delta else (low, middle)
    return high


def integrate_one_step(noise_multiplier, sampling_prob, delta):
    """One step, by integrating both hockey-stick divergences between (1 - q) N(0, s^2) + q N(1, s^2) and N(0, s^2)."""
    s, q = mpmath.mpf(noise_multiplier), mpmath.mpf(sampling_prob)

    def without(x):
        return mpmath.npdf(x, 0, s)

    def within(x):
        return (1 - q) * mpmath.npdf(x, 0, s) + q * mpmath.npdf(x, 1, s)

    def where_ratio_is(ratio):
        return s * s * mpmath.log((ratio - (1 - q)) / q) + mpmath.mpf(1) / 2

    def delta_of(epsilon):
        grown = mpmath.exp(epsilon)
        x = where_ratio_is(grown)
        removed = mpmath.quad(lambda y: within(y) - grown * without(y), [x, x + 2 * s, x + 10 * s])
        added = mpmath.mpf(0)
        if 1 / grown > 1 - q:
            x = where_ratio_is(1 / grown)
            added = mpmath.quad(lambda y: without(y) - grown * within(y), [x - 10 * s, x - 2 * s, x])
        return float(max(removed, added))

    return solve_epsilon(delta_of, delta)


def convolve_steps(noise_multiplier, sampling_prob, num_steps, delta):
    """Several steps: the privacy loss on a grid of our own, composed by one FFT a direction.

    A point between two grid values is shared between them so that its mean stays, and the error of many steps does not add up.
    """
    s, q, width, size = noise_multiplier, sampling_prob, 2.5e-4, 1 << 19
    xs = np.linspace(-11 * s, 1 + 11 * s, 400_001)
    step = xs[1] - xs[0]
    base = np.exp(-((xs / s) ** 2) / 2) / (s * math.sqrt(2 * math.pi))
    losses = np.log1p(q * np.expm1((2 * xs - 1) / (2 * s * s)))
    grid = (np.arange(size) - size // 2) * width

    def compose(weights, values):
        position = values / width + size // 2
        floor = np.floor(position).astype(np.int64)
        share = position - floor
        mass = np.bincount(floor, weights * (1 - share), size) + np.bincount(floor + 1, weights * share, size)
        spectrum = np.fft.rfft(np.fft.ifftshift(mass / mass.sum()))
        return np.fft.fftshift(np.fft.irfft(spectrum**num_steps, size))

    within = base * np.exp(losses)
    both = [compose(within * step, losses), compose(base * step, -losses)]

    def delta_of(epsilon):
        above = grid > epsilon
        return max(float(np.sum(masses[above] * -np.expm1(epsilon - grid[above]))) for masses in both)

    return solve_epsilon(delta_of, delta)


def solve_gaussian(noise_multiplier, delta):
    """The exact curve of the Gaussian mechanism. Source: Balle and Wang (2018), theorem 8. https://arxiv.org/abs/1805.06530"""
    half = 1 / (2 * noise_multiplier)

    def delta_of(epsilon):
        shift = epsilon * noise_multiplier
        return float(mpmath.ncdf(half - shift) - mpmath.exp(epsilon) * mpmath.ncdf(-half - shift))

    return solve_epsilon(delta_of, delta)


ONE_STEP = [(1e-4, 0.3, 1e-6), (1e-3, 0.5, 1e-6), (1e-2, 0.7, 1e-5), (0.1, 1.0, 1e-5), (0.5, 1.5, 1e-6)]
SEVERAL_STEPS = [(1e-4, 0.4, 1000, 1e-6), (1e-3, 0.6, 500, 1e-6), (1e-2, 1.0, 1000, 1e-5), (0.1, 1.5, 100, 1e-5), (0.5, 3.0, 20, 1e-6)]
CERTAIN = [(1.0, 1, 1e-5), (4.0, 10, 1e-6), (0.4, 1, 1e-5), (20.0, 20, 1e-9)]


@pytest.mark.parametrize(("sampling_prob", "noise_multiplier", "delta"), ONE_STEP)
def test_one_step_agrees_with_the_integral(sampling_prob, noise_multiplier, delta):
    expected = integrate_one_step(noise_multiplier, sampling_prob, delta)
    spent = compute_epsilon([sampled(noise_multiplier, sampling_prob)], delta=delta)
    assert 0.9998 * expected <= spent <= 1.01 * expected


@pytest.mark.parametrize(("sampling_prob", "noise_multiplier", "num_steps", "delta"), SEVERAL_STEPS)
def test_several_steps_agree_with_a_convolution_of_our_own(sampling_prob, noise_multiplier, num_steps, delta):
    expected = convolve_steps(noise_multiplier, sampling_prob, num_steps, delta)
    assert compute_epsilon([sampled(noise_multiplier, sampling_prob, num_steps)], delta=delta) == pytest.approx(expected, rel=0.01)


def test_the_convolution_agrees_with_the_integral():
    assert convolve_steps(1.0, 0.1, 1, 1e-5) == pytest.approx(integrate_one_step(1.0, 0.1, 1e-5), rel=1e-3)


@pytest.mark.parametrize(("noise_multiplier", "num_steps", "delta"), CERTAIN)
def test_without_sampling_it_is_the_gaussian_mechanism(noise_multiplier, num_steps, delta):
    expected = solve_gaussian(noise_multiplier / math.sqrt(num_steps), delta)
    for events in ([sampled(noise_multiplier, 1.0, num_steps)], [gaussian(noise_multiplier)] * num_steps):
        spent = compute_epsilon(events, delta=delta)
        assert 0.9998 * expected <= spent <= 1.01 * expected


def test_mixed_events_compose():
    # Gaussians alone: 1 / s^2 adds up, whatever the order.
    events = [gaussian(3.0), sampled(5.0, 1.0, 4), gaussian(2.0)]
    expected = solve_gaussian((1 / 9 + 4 / 25 + 1 / 4) ** -0.5, 1e-5)
    assert compute_epsilon(events, delta=1e-5) == pytest.approx(expected, rel=0.01)
    assert compute_epsilon(events[::-1], delta=1e-5) == pytest.approx(compute_epsilon(events, delta=1e-5), rel=1e-9)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    noise_multiplier=st.floats(0.5, 10),
    sampling_prob=st.sampled_from([1e-3, 0.01, 0.1, 0.5, 1.0]),
    num_steps=st.integers(1, 100),
    delta=st.sampled_from([1e-9, 1e-6, 1e-4]),
)
def test_the_other_road_never_says_less(noise_multiplier, sampling_prob, num_steps, delta):
    events = [sampled(noise_multiplier, sampling_prob, num_steps)]
    assert compute_epsilon(events, delta=delta) <= compute_epsilon_rdp(events, delta=delta)


@pytest.mark.parametrize(
    ("target_epsilon", "sampling_prob", "num_steps"),
    [
        (0.01, 0.01, 50),
        (0.1, 0.01, 50),
        (1.0, 0.05, 100),
        (8.0, 0.05, 50),
        (100.0, 0.01, 10),
    ],
)
def test_calibration_keeps_the_promise_and_wastes_little(target_epsilon, sampling_prob, num_steps):
    noise = calibrate_noise(lambda sought: [sampled(sought, sampling_prob, num_steps)], target_epsilon=target_epsilon, delta=1e-5)
    assert compute_epsilon([sampled(noise, sampling_prob, num_steps)], delta=1e-5) <= target_epsilon
    assert compute_epsilon([sampled(0.99 * noise, sampling_prob, num_steps)], delta=1e-5) > 0.97 * target_epsilon
