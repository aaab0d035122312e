"""Multi-layer perceptrons whose leaves are arrays only, so that a state is scanned and vmapped as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt32

from safetrax.nets.dropout import relu_dropout
from safetrax.nets.saving import saveable

Initialiser = Callable[[jax.Array, int, int], tuple[jax.Array, jax.Array]]


def orthogonal(
    key: Key[Array, ""], fan_in: int, fan_out: int, gain: float = 1.0
) -> tuple[Float[Array, "i o"], Float[Array, " o"]]:
    """Orthogonal weights and zero biases (of gain 1: TraC's reference code)."""
    return jax.nn.initializers.orthogonal(gain)(key, (fan_in, fan_out), jnp.float32), jnp.zeros(fan_out)


def kaiming_uniform(key: Key[Array, ""], fan_in: int, fan_out: int) -> tuple[Float[Array, "i o"], Float[Array, " o"]]:
    """PyTorch's default: weights and biases uniform in +-1/sqrt(fan_in)."""
    bound = fan_in**-0.5
    weight_key, bias_key = jax.random.split(key)
    weight = jax.random.uniform(weight_key, (fan_in, fan_out), minval=-bound, maxval=bound)
    return weight, jax.random.uniform(bias_key, (fan_out,), minval=-bound, maxval=bound)


def xavier_uniform(
    key: Key[Array, ""], fan_in: int, fan_out: int, gain: float = 1.0
) -> tuple[Float[Array, "i o"], Float[Array, " o"]]:
    """Weights uniform in +-gain sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010) and zero biases."""
    bound = gain * (6 / (fan_in + fan_out)) ** 0.5
    return jax.random.uniform(key, (fan_in, fan_out), minval=-bound, maxval=bound), jnp.zeros(fan_out)


def _product(a: Float[Array, "n k"], b: Float[Array, "k m"]) -> Float[Array, "n m"]:
    """a b; if that is the default precision, of operands rounded to bfloat16, with sums in float32.

    A CPU takes no heed of JAX's precisions, so the operands are rounded here.
    """
    if jax.config.jax_default_matmul_precision != "bfloat16":  # type: ignore[attr-defined]
        return a @ b
    return jax.lax.dot(a.astype(jnp.bfloat16), b.astype(jnp.bfloat16), preferred_element_type=jnp.float32)


@jax.custom_vjp
def linear(x: Float[Array, "n i"], weight: Float[Array, "i o"], bias: Float[Array, " o"]) -> Float[Array, "n o"]:
    """x W + b. The bias's gradient is a product with ones: XLA's reduction over rows runs on one core of a CPU."""
    return _product(x, weight) + bias


def _linear_forward(
    x: jax.Array, weight: jax.Array, bias: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return linear(x, weight, bias), (x, weight)


def _linear_backward(
    saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, weight = saved
    return _product(gradient, weight.T), _product(x.T, gradient), jnp.ones(gradient.shape[0]) @ gradient


linear.defvjp(_linear_forward, _linear_backward)

LOGITS = "logits"
"""The output of a network that chooses: unnormalised log-probabilities of the choices."""

_FUNCTIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "identity": lambda x: x,
    LOGITS: lambda x: x,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
}


@saveable
class MLP(eqx.Module):
    """Linear -> dropout -> ReLU (or another function) per hidden layer, then a linear layer and the output function.

    Dropout is used only where a seed is given, and with ReLU only.
    """

    weights: tuple[Float[Array, "_ _"], ...]  # one `(in, out)` matrix per layer
    biases: tuple[Float[Array, " _"], ...]  # one `(out,)` vector per layer
    output: str = eqx.field(static=True)  # "tanh", "identity" or "logits"
    dropout_rate: float = eqx.field(static=True)  # share of hidden units dropped while training
    activation: str = eqx.field(static=True, default="relu")  # of the hidden layers, "relu" or "tanh"

    @staticmethod
    def make(
        key: Key[Array, ""],
        sizes: Sequence[int],
        *,
        output: str = "identity",
        dropout_rate: float = 0.0,
        activation: str = "relu",
        initialiser: Initialiser = kaiming_uniform,
    ) -> MLP:
        """A fresh network of layer sizes `sizes` = (in, hidden..., out)."""
        keys = jax.random.split(key, len(sizes) - 1)
        layers = [initialiser(k, i, o) for k, i, o in zip(keys, sizes[:-1], sizes[1:], strict=True)]
        weights, biases = zip(*layers, strict=True)
        return MLP(
            weights=tuple(weights),
            biases=tuple(biases),
            output=output,
            dropout_rate=dropout_rate,
            activation=activation,
        )

    def __call__(self, x: Float[Array, "n i"], dropout_seed: UInt32[Array, ""] | None = None) -> Float[Array, "n o"]:
        """Outputs of a flat batch; with dropout only where a seed is given."""
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = linear(x, weight, bias)
            if layer == last:
                break
            if dropout_seed is None or self.dropout_rate == 0:
                x = _FUNCTIONS[self.activation](x)
            else:  # ReLU and a non-negative mask commute, so dropping after it equals dropping before it
                x = relu_dropout(x, dropout_seed + jnp.uint32(layer), self.dropout_rate)
        return _FUNCTIONS[self.output](x)
