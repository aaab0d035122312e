"""Policies played in worlds that are learnt, and whose costs are known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from safetrax.certification import world_model
from safetrax.certification.parts import Parts
from safetrax.certification.world_model import WorldModel
from safetrax.data import Trajectories
from safetrax.nets.saving import saveable
from safetrax.policies.actor import Actor

STEPS = 10


def world(ends: float = 0.0, episodes: int = 300) -> tuple[WorldModel, Float[np.ndarray, "n 1"]]:
    """s' = s + a / 10; a step costs max(a, 0) and earns 1 + a, and is the last with a chance. First states."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(episodes):
        length = min(int(rng.geometric(ends)), STEPS) if ends else STEPS
        actions = rng.uniform(-1, 1, length)
        states = rng.uniform(-1, 1) + 0.1 * np.concatenate([[0], np.cumsum(actions)[:-1]])
        found.append(
            {
                "observations": states[:, None],
                "actions": actions[:, None],
                "rewards": 1 + actions,
                "costs": np.maximum(actions, 0),
                "terminated": ends > 0 and length < STEPS,
            }
        )
    data = Trajectories.from_episodes(found)
    parts = Parts.make(data, 10, np.random.default_rng(0))
    model = WorldModel.fit(data, parts, 400, 0)
    return model, np.asarray(parts.store.observations)[data.offsets[:-1]]


@saveable
class Turning(Actor):
    """0.8 in the first steps, then -0.8: it remembers what it was told, a step each."""

    first: Float[Array, ""]

    def reset(self, n: int) -> Any:
        return jnp.zeros(n)

    def act(self, memory: Any, observations: Float[Array, "n O"], noise: Any) -> tuple[Float[Array, "n A"], Any]:
        return jnp.where(memory < self.first, 0.8, -0.8)[:, None] + 0 * observations, memory

    def observe(self, memory: Any, rewards: Float[Array, " n"], costs: Float[Array, " n"]) -> Any:
        return memory + 1


@pytest.fixture(scope="module", autouse=True)
def small_network() -> Iterator[None]:
    """States as simple as these are foretold by a smaller network, and errors are looked up among fewer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world_model, "_MOVES", (64, 64))
        patch.setattr(world_model, "_NEAR", 64)
        yield


@pytest.fixture(scope="module")
def known() -> tuple[WorldModel, Float[np.ndarray, "n 1"]]:
    return world()


@pytest.mark.parametrize("first", [0, 3, STEPS])
def test_a_policy_that_turns_costs_what_it_did_before(known, first):
    model, starts = known
    played = model.play(Turning(jnp.asarray(float(first))), starts, STEPS, 1.0, 0)
    # the network is within some hundredths of each step's cost, whose kink it rounds
    np.testing.assert_allclose(played[:, 0], 0.8 * first, atol=0.05 * STEPS)
    np.testing.assert_allclose(played[:, 1], STEPS + 0.8 * (2 * first - STEPS), atol=0.05 * STEPS)


def test_what_comes_later_is_discounted(known):
    model, starts = known
    (whole,) = model.play(Turning(jnp.asarray(99.0)), starts, STEPS, 0.5, 0).mean(axis=0)[:1]
    assert whole == pytest.approx(0.8 * (1 - 0.5**STEPS) / 0.5, abs=0.1)


def test_episodes_end_as_often_as_they_did():
    model, starts = world(ends=0.5, episodes=1500)
    played = model.play(Turning(jnp.asarray(99.0)), starts, STEPS, 1.0, 0).mean(axis=0)
    # two steps on average; 192 episodes tell it to a tenth, and 3000 steps the chance to a twentieth
    assert played[0] == pytest.approx(0.8 * 2, abs=0.4)


def test_members_know_halves_and_same_seeds_say_the_same(known):
    model, starts = known
    actor = Turning(jnp.asarray(5.0))
    one, same = (model.play(actor, starts, STEPS, 1.0, 3) for _ in range(2))
    np.testing.assert_array_equal(one, same)
    assert len(np.unique(one[:, 0])) == len(one)
    networks = [np.asarray(leaf) for leaf in jnp.asarray(model.members.moves.weights[0])]
    assert all(np.abs(networks[0] - other).max() > 0.01 for other in networks[1:])
