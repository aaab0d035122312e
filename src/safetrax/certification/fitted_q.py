"""Fitted Q evaluation over a finite horizon, in closed form, and the second opinion of a doubly robust estimate."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from safetrax.certification.features import Moments, PolicyMoments


class Estimate(NamedTuple):
    """Of one policy.

    Attributes:
        fitted: cost and return of an episode by fitted Q evaluation.
        resampled: likewise, for every resample of the blocks.
        robust: the doubly robust ones, across two halves of the blocks.
        halves: fitted on either half of the blocks.
        visits: what times phi(s, a) is the policy's visits of (s, a) per logged one, summed over the steps.
    """

    fitted: Float[np.ndarray, " 2"]
    resampled: Float[np.ndarray, "M 2"]
    robust: Float[np.ndarray, " 2"]
    halves: Float[np.ndarray, "2 2"]
    visits: Float[np.ndarray, " D"]


def regression(moments: Moments, weights: Float[np.ndarray, " G"], ridge: float) -> Float[np.ndarray, "D D"]:
    """(sum phi phi' / n + ridge)^-1, with the blocks weighted. Needed once for all policies."""
    second = _mean(moments.second, weights, moments.rows)
    scale = np.trace(second) / len(second)
    return np.asarray(np.linalg.inv(second + ridge * scale * np.eye(len(second))))


def values(
    inverse: Float[np.ndarray, "D D"],
    following: Float[np.ndarray, "D D"],
    targets: Float[np.ndarray, "D 2"],
    horizon: int,
    discount: float,
) -> Float[np.ndarray, "H D 2"]:
    """theta_h, h = 1 .. horizon steps left: Q_h = theta_h' phi, Q_h(s, a) = c + gamma E Q_{h-1}(s', pi(s')).

    Each is the least-squares fit to the one before it, as in fitted Q evaluation (Le et al., ICML 2019), with the
    time left in place of a fixed point.
    """
    step, first = discount * (inverse @ following), inverse @ targets
    theta = np.empty((horizon, *first.shape))
    theta[0] = first
    for h in range(1, horizon):
        theta[h] = first + step @ theta[h - 1]
    return theta


def occupancies(
    inverse: Float[np.ndarray, "D D"],
    following: Float[np.ndarray, "D D"],
    initial: Float[np.ndarray, " D"],
    horizon: int,
    discount: float,
) -> Float[np.ndarray, "H D"]:
    """gamma^t (sum phi phi' / n)^-1 nu_t for t = 0 .. horizon - 1, nu_t the policy's mean features in step t.

    Times phi(s, a) it is the ratio of visits in step t, so that sums over the log weighted with it are the policy's.
    """
    step = discount * (inverse @ following.T)
    ratio = np.empty((horizon, len(initial)))
    ratio[0] = inverse @ initial
    for t in range(1, horizon):
        ratio[t] = step @ ratio[t - 1]
    return ratio


def doubly_robust(
    initial: Float[np.ndarray, " D"],
    theta: Float[np.ndarray, "H D 2"],
    ratio: Float[np.ndarray, "H D"],
    second: Float[np.ndarray, "D D"],
    following: Float[np.ndarray, "D D"],
    targets: Float[np.ndarray, "D 2"],
    discount: float,
) -> Float[np.ndarray, " 2"]:
    """E Q_H(s_0, pi(s_0)) + sum_t E w_t(s, a) [c + gamma Q_{h-1}(s', pi(s')) - Q_h(s, a)], h = H - t steps left.

    The marginalised estimator of Kallus and Uehara (JMLR 2020): values from one part of the log (`theta`), the ratios
    w_t of visits from another (`ratio`), in which the errors of the values are measured too (`second`, `following`,
    `targets`: means over it).
    """
    before = np.concatenate([np.zeros_like(theta[:1]), theta[:-1]])  # theta_{h-1}
    error = targets + discount * (following @ before) - second @ theta
    return np.asarray(initial @ theta[-1] + np.einsum("td,tdk->k", ratio, error[::-1]))


def estimate(
    log: Moments,
    policy: PolicyMoments,
    weights: Float[np.ndarray, "M G"],
    inverses: Float[np.ndarray, "M D D"],
    halves: Float[np.ndarray, "2 G"],
    half_inverses: Float[np.ndarray, "2 D D"],
    starts: Float[np.ndarray, " G"] | None,
    horizon: int,
    discount: float = 1.0,
) -> Estimate:
    """Everything about one policy.

    Args:
        log: sums over the blocks.
        policy: likewise, of the policy.
        weights: how often each block counts, the first row for the blocks as they are.
        inverses: `regression` for each row of `weights`.
        halves: how often each block counts in either half of the log.
        half_inverses: `regression` for them.
        starts: how often the first states of each block count; None: as often as the block.
        horizon: steps of an episode, H.
        discount: gamma; 1 for limits on sums.
    """

    def means(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _mean(policy.following, w, log.rows), _mean(log.targets, w, log.rows)

    def begin(w: np.ndarray) -> np.ndarray:
        return _mean(policy.initial, w if starts is None else starts, policy.starts)

    initial = begin(weights[0])
    fitted = [
        begin(w) @ values(inverse, *means(w), horizon, discount)[-1]
        for w, inverse in zip(weights, inverses, strict=True)
    ]
    robust, either = [], []
    for ours, theirs in ((0, 1), (1, 0)):
        theta = values(half_inverses[ours], *means(halves[ours]), horizon, discount)
        either.append(initial @ theta[-1])
        following, targets = means(halves[theirs])
        ratio = occupancies(half_inverses[theirs], following, initial, horizon, discount)
        second = _mean(log.second, halves[theirs], log.rows)
        robust.append(doubly_robust(initial, theta, ratio, second, following, targets, discount))
    visits = occupancies(inverses[0], means(weights[0])[0], initial, horizon, discount).sum(axis=0)
    return Estimate(fitted[0], np.array(fitted[1:]), np.mean(robust, axis=0), np.array(either), visits)


def _mean(sums: np.ndarray, weights: Float[np.ndarray, " G"], count: Float[np.ndarray, " G"]) -> np.ndarray:
    """Over the rows of all blocks, weighted."""
    flat = sums.reshape(len(sums), -1)
    return np.asarray((weights @ flat).reshape(sums.shape[1:]) / (weights @ count))
