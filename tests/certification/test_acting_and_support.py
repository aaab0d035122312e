"""What policies would do in logged states, and how near that is to the log."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import toy_episodes
from safetrax.certification.acting import logged_state_actions
from safetrax.certification.parts import alike
from safetrax.certification.support import Support, effective_episodes
from safetrax.policies.actor import Actor


class Counting(Actor):
    """Plays what the last rewards and costs add up to."""

    zero: jax.Array = eqx.field(default_factory=lambda: jnp.zeros(()))

    def reset(self, n: int) -> jax.Array:
        return jnp.zeros(n) + self.zero

    def act(self, memory: Any, observations: jax.Array, noise: Any) -> tuple[jax.Array, Any]:
        return jnp.stack([memory, observations[:, 0]], axis=1), memory

    def observe(self, memory: Any, rewards: jax.Array, costs: jax.Array) -> Any:
        return memory + rewards + 10 * costs


class Noisy(Actor):
    """Plays its noise."""

    zero: jax.Array = eqx.field(default_factory=lambda: jnp.zeros(()))

    def draw(self, keys: jax.Array) -> jax.Array:
        return jax.vmap(jax.random.normal)(keys)

    def act(self, memory: Any, observations: jax.Array, noise: Any) -> tuple[jax.Array, Any]:
        return jnp.stack([noise, noise + self.zero], axis=1), memory


def test_a_memory_is_led_through_every_episode():
    data = toy_episodes([3, 5, 1])
    (actions,) = logged_state_actions(Counting(), data, draws=4)  # one draw, for it draws no noise
    gained = np.concatenate(
        [
            np.concatenate([[0.0], np.cumsum(data.rewards[a:b] + 10 * data.costs[a:b])[:-1]])
            for a, b in zip(data.offsets, data.offsets[1:], strict=False)
        ]
    )
    np.testing.assert_allclose(actions, np.stack([gained, data.observations[:, 0]], axis=1), rtol=1e-5)


def test_noise_is_drawn_anew_for_every_row_and_draw():
    data = toy_episodes([3, 5])
    actions = logged_state_actions(Noisy(), data, draws=3)
    assert actions.shape == (3, 8, 2)
    assert len(np.unique(actions[..., 0])) == 24


def world(seed: int = 0) -> tuple[Support, np.ndarray, np.ndarray]:
    """States on a line with actions near the state: 40 episodes of 50 steps."""
    rng = np.random.default_rng(seed)
    states = rng.uniform(-1, 1, (2000, 1))
    actions = states + 0.05 * rng.standard_normal((2000, 1))
    episode = np.repeat(np.arange(40), 50)
    return Support.of(states, actions, episode, 0), states, actions


@pytest.mark.parametrize(("shift", "least", "most"), [(0.0, 0.9, 1.0), (3.0, 0.0, 0.0)])
def test_support_is_of_what_the_log_does(shift, least, most):
    support, states, _ = world()
    share, worst = support.share(states + shift, np.ones(2000), 0)
    assert least <= share <= most
    assert len(worst) == 3


def test_support_counts_where_the_policy_is():
    support, states, _ = world()
    astray = np.where(states > 0, states + 3, states)
    left, right = (states[:, 0] < 0).astype(float), (states[:, 0] > 0).astype(float)
    assert support.share(astray, left, 0)[0] > 0.9
    assert support.share(astray, right, 0)[0] == 0


def test_effective_episodes_by_hand():
    episode = np.array([0, 0, 1, 2])
    assert effective_episodes(np.ones(4), episode) == pytest.approx(16 / 6)  # weights 2, 1, 1
    assert effective_episodes(np.array([0, 0, 1.0, -1.0]), episode) == 1


def test_groups_are_alike():
    costs, returns = np.array([0, 9, 1, 8, 0, 9.0]), np.array([1, 1, 2, 2, 3, 3.0])
    groups = alike(costs, returns, 4)
    assert sorted(np.concatenate(groups).tolist()) == [0, 1, 2, 3, 4, 5]
    assert max(costs[groups[0]].max(), costs[groups[1]].max()) <= min(costs[groups[2]].min(), costs[groups[3]].min())
    assert returns[groups[0]].max() <= returns[groups[1]].min()
