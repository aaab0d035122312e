"""A signal of safety learnt from demonstrations: which episodes these are, and how much others are like them."""

from __future__ import annotations

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Float32, Int, Int32, Key

from safetrax.algorithms.base import Metrics, Spec
from safetrax.algorithms.diagnosis import History, lasts
from safetrax.algorithms.learners import Learner, dropout_seed
from safetrax.data.sequences import WindowBatch, windows_at
from safetrax.data.store import Store
from safetrax.data.trajectories import SAFE, Trajectories
from safetrax.errors import DataError
from safetrax.losses.imitation import gradient_penalty, separation_loss
from safetrax.losses.mutual_information import class_loss, vclub
from safetrax.nets.mlp import MLP
from safetrax.nets.safety_transformer import SafetyMLP, SafetyNetwork, SafetyTransformer

BinEdges = Literal["width", "quantile"]
Backbone = Literal["transformer", "mlp"]
ReturnAgnostic = Literal["vclub", "none", "gradient-penalty"]

_AT_ONCE = 16  # episodes whose windows are scored side by side
_ALIKE = 0.05  # of D on demonstrations less D on the others: below it the signal says nothing
_BY_HEART = 0.99  # above it nothing is like a demonstration but these
_PENALTY_WEIGHT = 10.0  # of the gradient penalty, as in its paper


class Demonstrations(eqx.Module):
    """Which episodes are demonstrations, those that are marked safe, and what every episode returns."""

    order: Int32[Array, " E"]  # of episodes: demonstrations first, then all others
    count: Int32[Array, ""]  # demonstrations
    returns: Float32[Array, " E"]  # from 0 to 1 over the log's range
    bins: Int32[Array, " E"]  # of the returns
    rewards: Float32[Array, " 2"]  # per step of a demonstration: the log's least return, and the range

    @staticmethod
    def make(trajectories: Trajectories, name: str, bins: int, edges: BinEdges) -> Demonstrations:
        """On the host, for the algorithm of that name.

        Raises:
            DataError: there are none, or nothing else.
        """
        safe, returns = trajectories.marks == SAFE, trajectories.returns
        if not safe.any() or safe.all():
            found, missing = ("all", "episodes that are not") if safe.all() else ("none", "some that are (--labels)")
            raise DataError(
                f"{name} tells safe demonstrations from other episodes, but {found} of the {safe.size} episodes are "
                f"marked safe; add {missing}."
            )
        low, extent = returns.min(), np.ptp(returns)
        return Demonstrations(
            order=jnp.asarray(np.argsort(~safe, kind="stable"), jnp.int32),
            count=jnp.asarray(safe.sum(), jnp.int32),
            returns=jnp.asarray((returns - low) / (extent or 1.0), jnp.float32),
            bins=jnp.asarray(return_bins(returns, bins, edges), jnp.int32),
            rewards=jnp.asarray(np.array([low, extent]) / trajectories.lengths[safe].mean(), jnp.float32),
        )

    def draw(self, key: Key[Array, ""], half: int) -> Int[Array, " B"]:
        """`half` demonstrations, then as many others, uniform with replacement."""
        own, other = jax.random.split(key)
        demonstrations = jax.random.randint(own, (half,), 0, self.count)
        others = jax.random.randint(other, (half,), self.count, self.order.shape[-1])
        return self.order[jnp.concatenate([demonstrations, others])]

    def least(self, values: Float[Array, " E"]) -> Float[Array, ""]:
        """The smallest value of a demonstration."""
        return jnp.min(jnp.where(jnp.arange(values.size) < self.count, values[self.order], jnp.inf))

    def greatest(self, values: Float[Array, " E"]) -> Float[Array, ""]:
        """The greatest."""
        return -self.least(-values)


def return_bins(returns: Float[np.ndarray, " E"], count: int, edges: BinEdges) -> Int[np.ndarray, " E"]:
    """The class of each return, 0..count - 1: of equal width over their range, or of as many episodes in each."""
    ends = np.linspace(0, 1, count + 1)[1:-1]
    ends = np.quantile(returns, ends) if edges == "quantile" else returns.min() + ends * np.ptp(returns)
    return np.searchsorted(ends, returns, side="right") if np.ptp(returns) else np.zeros(returns.size, int)


def fresh_network(
    key: Key[Array, ""],
    spec: Spec,
    backbone: Backbone,
    width: int,
    blocks: int,
    heads: int,
    dropout: float,
    scaled: bool,
) -> SafetyNetwork:
    """D before its first step; see `SafetyTransformer` and `SafetyMLP`."""
    sizes = (spec.observation_size, spec.action_size)
    if backbone == "mlp":
        return SafetyMLP.make(key, *sizes, width=width, blocks=blocks, dropout=dropout)
    more = {"width": width, "blocks": blocks, "heads": heads}
    return SafetyTransformer.make(key, *sizes, spec.max_length, dropout=dropout, scaled=scaled, **more)


def episode_signal(network: SafetyNetwork, store: Store, window: int, longest: int) -> Float[Array, " E"]:
    """D of every episode: the sigmoid of the mean logit of the windows that cover it, the last of which reaches back.

    Args:
        network: gives the logits; without dropout.
        store: E episodes.
        window: steps of a window; a shorter episode is one by itself.
        longest: steps of the longest episode.
    """
    places = jnp.arange(-(-longest // window)) * window

    def score(episode: Int[Array, ""]) -> Float[Array, ""]:
        length = store.offsets[episode + 1] - store.offsets[episode]
        first = jnp.minimum(places, jnp.maximum(length - window, 0))
        batch = windows_at(store, jnp.full(places.shape, episode), first, window)
        logits = network(*batch.inputs)
        return jax.nn.sigmoid(jnp.mean(logits, where=places < length))

    episodes = jnp.arange(store.offsets.shape[0] - 1)
    scores: jax.Array = jax.lax.map(score, episodes, batch_size=min(_AT_ONCE, episodes.size))
    return scores


def signal_loss(
    network: SafetyNetwork,
    guesser: MLP,
    batch: WindowBatch,
    bins: Int[Array, " B"],
    key: Key[Array, ""],
    return_agnostic: ReturnAgnostic,
    mi_weight: float,
) -> tuple[Float[Array, ""], tuple[Float[Array, " B"], Metrics]]:
    """The discriminator's loss and what keeps it from seeing returns; also the logits, and what is logged of them.

    Args:
        network: D.
        guesser: q, frozen.
        batch: windows, the first half of demonstrations.
        bins: of the return of each window's episode.
        key: of dropout and of the places between demonstrations and others where a gradient is penalised.
        return_agnostic: see `DSPO`.
        mi_weight: of the bound of the mutual information.
    """
    dropout_key, share_key = jax.random.split(key)
    logits = network(*batch.inputs, dropout_seed(dropout_key))
    own, others = jnp.split(logits, 2)
    value, bound = separation_loss(own, others), vclub(guess(guesser, logits), bins)
    of_own, of_others = jnp.mean(jax.nn.sigmoid(own)), jnp.mean(jax.nn.sigmoid(others))
    metrics = {
        "signal_loss": value,
        "mutual_information": bound,
        "demonstrations": of_own,
        "others": of_others,
        "separation": of_own - of_others,
    }
    if return_agnostic == "vclub":
        value += mi_weight * bound
    elif return_agnostic == "gradient-penalty":
        metrics["penalty"] = interpolated_penalty(network, batch, share_key)
        value += _PENALTY_WEIGHT * metrics["penalty"]
    return value, (logits, metrics)


def guess(guesser: MLP, logits: Float[Array, " B"]) -> Float[Array, "B K"]:
    """log q(. | z) of every bin."""
    return jax.nn.log_softmax(guesser(logits[:, None]))


def fit_guesser(
    guesser: Learner[MLP], logits: Float[Array, " B"], bins: Int[Array, " B"], rate: float, steps: int
) -> Learner[MLP]:
    """That many steps of Adam towards the bins' likelihood; the logits are numbers here."""

    def loss(network: MLP) -> tuple[jax.Array, None]:
        return class_loss(guess(network, logits), bins), None

    fitted: Learner[MLP] = jax.lax.fori_loop(0, steps, lambda _, q: q.step(optax.adam(rate), loss)[0], guesser)
    return fitted


def interpolated_penalty(network: SafetyNetwork, batch: WindowBatch, key: Key[Array, ""]) -> Float[Array, ""]:
    """The penalty of the logits' gradients, between the batch's first half and its second, without dropout."""
    half = batch.mask.shape[0] // 2
    share = jax.random.uniform(key, (half, 1, 1))

    def between(x: Float[Array, "B T n"]) -> Float[Array, "H T n"]:
        return share * x[:half] + (1 - share) * x[half:]

    mask = batch.mask[:half] & batch.mask[half:]
    inputs = (between(batch.observations), between(batch.actions))

    def total(inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jnp.sum(network(*inputs, batch.times[:half], mask))

    gradients = jnp.concatenate(jax.grad(total)(inputs), axis=-1)
    return gradient_penalty(gradients.reshape(half, -1))


def signal_doubts(history: History) -> tuple[str, ...]:
    """Sentences about a signal that tells demonstrations and others not apart, or by heart."""
    sentences = []
    if lasts(history, "separation", lambda gap: gap < _ALIKE):
        sentences.append(
            "the signal is nearly the same on demonstrations and on other episodes, so that it says nothing about "
            "safety; train it for longer, lower mi_weight or mark other episodes."
        )
    if lasts(history, "separation", lambda gap: gap > _BY_HEART):
        sentences.append(
            "the signal is 1 on demonstrations and 0 on everything else: it knows them by heart and finds no other "
            "safe episode; lower signal_updates, signal_peak or width, or raise dropout or mi_weight."
        )
    return tuple(sentences)
