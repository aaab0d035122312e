"""Every algorithm by the word that a person types for it: the one table to edit when an algorithm is added.

An algorithm of another package is known by an entry point of the group `safetrax.algorithms`: its name is the word,
its value the class. Importing this needs neither JAX nor an algorithm.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from safetrax.errors import ConfigError, SafeTraXWarning, look_up
from safetrax.packages import GROUP, imported

if TYPE_CHECKING:
    from safetrax.algorithms.base import Algorithm


@dataclass(frozen=True)
class Registered:
    """One word for an algorithm.

    Attributes:
        home: of the class, `module:name` or `module:outer.inner`.
        line: what it is; empty: what the class says.
        fixed: settings that the word stands for; they are no flags.
        refusal: why it cannot be used; empty: it can.
    """

    home: str
    line: str = ""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    refusal: str = ""

    @property
    def class_name(self) -> str:
        """The name of the class, as configurations have it."""
        return _class_name(self.home)

    def load(self) -> type[Algorithm]:
        """The class.

        Raises:
            ConfigError: two packages claim the word, its package is broken, it is no algorithm, or its name is not
                what the entry point says, or is another algorithm's.
        """
        if self.refusal:
            raise ConfigError(self.refusal)
        from safetrax.algorithms.base import Algorithm

        found = imported(self.home)
        if not (isinstance(found, type) and issubclass(found, Algorithm)):
            raise ConfigError(f"{self.home} is no subclass of safetrax.Algorithm; mend its package's entry point.")
        if found.__name__ != self.class_name:  # configurations have the class's own name, and would not be found
            raise ConfigError(
                f"{self.home} is another name of the class {found.__module__}:{found.__qualname__}; mend its "
                "package's entry point, which must end in the class's own name."
            )
        homes = _homes(self.class_name)
        if len(homes) > 1 and self.home != HOMES.get(self.class_name):  # configurations could not tell them apart
            raise ConfigError(f"{' and '.join(sorted(homes))} are two algorithms of one name; rename one of them.")
        return found

    def summary(self) -> str:
        """What it is, in a line."""
        return self.line or (self.load().__doc__ or "").partition("\n")[0].rstrip(".")


def _class_name(home: str) -> str:
    return home.partition(":")[2].rpartition(".")[2]


def _ours(home: str, line: str, **fixed: Any) -> Registered:
    return Registered(f"safetrax.algorithms.{home}", line, fixed)


ALGORITHMS = {
    "trac": _ours("trac:TraC", "trajectory classification: near desirable episodes, away from undesirable ones"),
    "trac-conditioned": _ours(
        "trac_conditioned:TraCConditioned", "TraC that is told the limit: one training for every cost limit"
    ),
    "lspc": _ours(
        "lspc:LSPC", "a latent space that decodes to safe actions, for LSPC-S and LSPC-O; ignores the cost limit"
    ),
    "fisor": _ours(
        "fisor:FISOR", "a diffusion policy that avoids every violation that it can; ignores the cost limit"
    ),
    "bars": _ours("bars:BARS", "a diffusion policy that clones in safe states and escapes from unsafe ones"),
    "cdt": _ours("cdt:CDT", "a transformer that is told return and cost; one training serves every limit"),
    "b2r": _ours("b2r:B2R", "a transformer that clones episodes within the limit as if each had spent all of it"),
    "cpq": _ours("cpq:CPQ", "constraints penalised Q-learning: unknown actions count as costly"),
    "bcq-lag": _ours("bcq_lag:BCQLag", "batch-constrained Q-learning with a Lagrange multiplier"),
    "bear-lag": _ours("bear_lag:BEARLag", "Q-learning near the log's actions (MMD) with a Lagrange multiplier"),
    "coptidice": _ours(
        "coptidice:COptiDICE", "cloning with weights that correct the log towards the constrained optimum"
    ),
    "carl": _ours("carl:CARL", "TD3 with a cloning term; rewards are replaced where the cost would be too high"),
    "o3srl": _ours("o3srl:O3SRL", "TD3 with a cloning term under a Lagrange multiplier that a bandit chooses"),
    "dspo": _ours(
        "dspo:DSPO", "cloning of safe demonstrations and of what a diffusion generates like them; needs no costs"
    ),
    "dwbc": _ours("dwbc:DWBC", "cloning of episodes labelled safe and of what looks like them; ignores costs"),
    "rgm": _ours("rgm:RGM", "rewards are corrected by episodes labelled safe; ignores costs"),
    "cdt-v": _ours("cdt_v:CDTV", "CDT on costs that episodes labelled safe let estimate; ignores costs"),
    "iql": _ours("iql:IQL", "implicit Q-learning; ignores costs"),
    "td3-bc": _ours("td3_bc:TD3BC", "TD3 with a cloning term; ignores costs"),
    "cql": _ours("cql:CQL", "conservative Q-learning; ignores costs"),
    "bc-all": _ours("bc:BC", "behaviour cloning of every episode; ignores the cost limit", mode="all"),
    "bc-safe": _ours("bc:BC", "behaviour cloning of the episodes within the cost limit", mode="safe"),
    "bc-risky": _ours("bc:BC", "behaviour cloning of the episodes at twice the limit and more", mode="risky"),
    "bc-boundary": _ours("bc:BC", "behaviour cloning of the episodes near the limit", mode="boundary"),
    "bc-frontier": _ours("bc:BC", "behaviour cloning of the best episodes at every cost", mode="frontier"),
    "bc-conditioned": _ours("bc:BC", "behaviour cloning that is told the episode's cost", mode="conditioned"),
}
"""The library's own, in the order of lists."""

HOMES = {entry.class_name: entry.home for entry in ALGORITHMS.values()}
"""Where each of the library's classes is."""


@functools.cache
def brought() -> Mapping[str, Mapping[str, EntryPoint]]:
    """Of every word in other packages, the homes of its classes, each with an entry point that says so."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for entry in sorted(entry_points(group=GROUP)):
        home = "".join(entry.value.partition("[")[0].split())  # extras are for installers
        found.setdefault(entry.name, {})[home] = entry
    return found


def _whose(word: str) -> str:
    """Which packages bring that word."""
    return " and ".join(f"{entry.dist and entry.dist.name} ({home})" for home, entry in brought()[word].items())


def known() -> Mapping[str, Registered]:
    """The library's algorithms, then those of other packages; a word of the library's stays the library's."""
    found = {}
    for word, homes in brought().items():
        claimed = f"the word {word!r} is claimed by {_whose(word)}; keep one of these packages."
        found[word] = Registered(next(iter(homes)), refusal=claimed if len(homes) > 1 else "")
    return {**ALGORITHMS, **found, **ALGORITHMS}


def _homes(name: str) -> list[str]:
    """Where the classes of that name are, whatever their words, the library's first."""
    homes = [*HOMES.values(), *(home for homes in brought().values() for home in homes)]
    return [home for home in dict.fromkeys(homes) if _class_name(home) == name]


def get(word: str) -> Registered:
    """The algorithm of that word.

    Raises:
        ConfigError: there is none.
    """
    return look_up(word, known(), "algorithm")


def chosen(word: str) -> Registered:
    """`get`, for a word that somebody has just typed: warns if it is the library's and packages claim it too."""
    if word in ALGORITHMS and word in brought():
        warnings.warn(
            f"{word!r} is the library's algorithm, not that of {_whose(word)}, whose entry point needs another word.",
            SafeTraXWarning,
            stacklevel=2,
        )
    return get(word)


def class_named(name: str) -> type[Algorithm] | None:
    """The class of that name, as a configuration has it; None: no package that is installed has one.

    Raises:
        ConfigError: see `Registered.load`.
    """
    return next((Registered(home).load() for home in _homes(name)), None)


def class_at_hand(name: str) -> type[Algorithm] | None:
    """`class_named` for readers of runs that have ended, which do without: None also if its package is broken now."""
    with contextlib.suppress(ConfigError):
        return class_named(name)
    return None


def classes() -> dict[str, type[Algorithm]]:
    """The library's classes by name."""
    return {entry.class_name: entry.load() for entry in ALGORITHMS.values()}


def lines() -> str:
    """One line for each word, for a help; one that is broken says so."""
    shown = []
    for word, entry in known().items():
        try:
            shown.append(f"  {word:<18}{entry.summary()}")
        except ConfigError as error:
            shown.append(f"  {word:<18}{error}")
    return "\n".join(shown)
