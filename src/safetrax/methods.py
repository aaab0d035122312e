"""Every method by the word that a person types for it. Importing this needs neither JAX nor an algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from safetrax.errors import ConfigError, nearest


@dataclass(frozen=True)
class Choice:
    """One word for a method.

    Attributes:
        algorithm: name of a class in `safetrax.algorithms.CLASSES`.
        line: what it is.
        fixed: settings that the word stands for; they are no flags.
    """

    algorithm: str
    line: str
    fixed: Mapping[str, Any] = field(default_factory=dict)


CHOICES = {
    "trac": Choice("TraC", "trajectory classification: near desirable episodes, away from undesirable ones"),
    "lspc": Choice(
        "LSPC", "a latent space that decodes to safe actions, for LSPC-S and LSPC-O; ignores the cost limit"
    ),
    "fisor": Choice("FISOR", "a diffusion policy that avoids every violation that it can; ignores the cost limit"),
    "bars": Choice("BARS", "a diffusion policy that clones in safe states and escapes from unsafe ones"),
    "cpq": Choice("CPQ", "constraints penalised Q-learning: unknown actions count as costly"),
    "bcq-lag": Choice("BCQLag", "batch-constrained Q-learning with a Lagrange multiplier"),
    "bear-lag": Choice("BEARLag", "Q-learning near the log's actions (MMD) with a Lagrange multiplier"),
    "coptidice": Choice("COptiDICE", "cloning with weights that correct the log towards the constrained optimum"),
    "iql": Choice("IQL", "implicit Q-learning; ignores costs"),
    "td3-bc": Choice("TD3BC", "TD3 with a cloning term; ignores costs"),
    "cql": Choice("CQL", "conservative Q-learning; ignores costs"),
    "bc-all": Choice("BC", "behaviour cloning of every episode; ignores the cost limit", {"mode": "all"}),
    "bc-safe": Choice("BC", "behaviour cloning of the episodes within the cost limit", {"mode": "safe"}),
    "bc-risky": Choice("BC", "behaviour cloning of the episodes at twice the limit and more", {"mode": "risky"}),
    "bc-boundary": Choice("BC", "behaviour cloning of the episodes near the limit", {"mode": "boundary"}),
    "bc-frontier": Choice("BC", "behaviour cloning of the best episodes at every cost", {"mode": "frontier"}),
    "bc-conditioned": Choice("BC", "behaviour cloning that is told the episode's cost", {"mode": "conditioned"}),
}


def get_choice(word: str) -> Choice:
    """The choice of that name.

    Raises:
        ConfigError: there is none.
    """
    if word not in CHOICES:
        raise ConfigError(f"there is no algorithm {word!r}; {nearest(word, CHOICES)}")
    return CHOICES[word]
