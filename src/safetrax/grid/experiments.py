"""Tables and figures of four papers as grids: what each paper finds there, as claims that scores can bear out.

`safetrax reproduce` runs one and judges it (`safetrax.report.verdicts`). A paper's ablation is one of `ABLATIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from safetrax.catalogue import SUITES, tasks
from safetrax.grid.ablations import ABLATIONS

Kind = Literal["more reward", "less cost", "reward alike", "safe", "safe everywhere", "unsafe"]


@dataclass(frozen=True)
class Claim:
    """One thing that a paper finds.

    Attributes:
        kind: "more reward" and "less cost": of the first than of the second; "reward alike": of both; "safe",
            "unsafe": a normalised cost of at most, or more than, 1 in the mean over the tasks; "safe everywhere":
            on each of them.
        first: name in results, such as "TraC (eta 0.25)".
        second: whom it is compared with; empty where it is not.
        tasks: where; empty: on all of the experiment's.
    """

    kind: Kind
    first: str
    second: str = ""
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """A table or figure.

    Attributes:
        source: which.
        finding: what the paper says of it, in a sentence.
        claims: the finding, as far as episodes of policies can tell.
        tasks: names, or suites for all of theirs.
        algorithms: words of its grid.
        ablations: names of its grid.
        protocol: of its grid.
        cost_limits: instead of the protocol's; empty: the protocol's.
        filters: what the data go through first, as words.
        by_limit: whether an algorithm's limits are compared with one another; claims then name "BARS at limit 10".
        beyond: what of the finding no episode tells, and what does, in a sentence; empty: nothing.
    """

    source: str
    finding: str
    claims: tuple[Claim, ...]
    tasks: tuple[str, ...]
    algorithms: tuple[str, ...] = ()
    ablations: tuple[str, ...] = ()
    protocol: str = "dsrl"
    cost_limits: tuple[float, ...] = ()
    filters: tuple[str, ...] = ()
    by_limit: bool = False
    beyond: str = ""

    @property
    def task_names(self) -> tuple[str, ...]:
        """Of its tasks, suites spelt out."""
        return tuple(
            name
            for word in self.tasks
            for name in ([task.name for task in tasks(word)] if word in SUITES else [word])
        )


_BULLET, _GYM, _METADRIVE = (
    tuple(task.name for task in tasks(suite)) for suite in ("bullet", "safety_gymnasium", "metadrive")
)
_SUITES = ("safety_gymnasium", "bullet", "metadrive")
_LSPC_GYM = (
    *("CarButton1", "CarButton2", "CarGoal1", "CarGoal2", "CarPush1", "CarPush2"),
    *("SwimmerVelocity", "HopperVelocity", "HalfCheetahVelocity", "Walker2dVelocity", "AntVelocity"),
)
_BARS_GYM = (*_LSPC_GYM[:6], "AntVelocity", "HalfCheetahVelocity", "SwimmerVelocity")
_DEMONSTRATIONS = ("demonstrations:15",)


def _each(kind: Kind, *names: str, over: Sequence[tuple[str, ...]] = ((),)) -> tuple[Claim, ...]:
    return tuple(Claim(kind, name, tasks=where) for where in over for name in names)


def _ablation(name: str, finding: str, *claims: Claim, filters: tuple[str, ...] = (), beyond: str = "") -> Experiment:
    """A grid of one ablation, with what it says of itself; filtered data are DSPO's, whose limit is 20."""
    own = ABLATIONS[name]
    limits = (20.0,) if filters else ()
    bars = own.algorithm == "bars"
    return Experiment(
        own.source,
        finding,
        claims,
        own.tasks,
        ablations=(name,),
        protocol="bars" if bars else "dsrl",
        cost_limits=limits,
        filters=filters,
        beyond=beyond,
    )


def _quality(ratio: str) -> Experiment:
    return Experiment(
        f"BARS, Table 2, {ratio}",
        f"With {ratio} safe to unsafe data BARS is the only one that is safe on all tasks, and it earns the most of "
        "those that are safe.",
        (
            *_each("safe everywhere", "BARS"),
            *_each("unsafe", "CPQ", "COptiDICE", *(() if ratio == "8:1" else ("FISOR",))),
        ),
        _BARS_GYM,
        ("cpq", "coptidice", "fisor", "bars"),
        cost_limits=(10.0,),
        filters=(f"quality-mix:{ratio}",),
        beyond="The paper mixes single steps and repeats unsafe ones; the filter mixes whole episodes.",
    )


EXPERIMENTS: Mapping[str, Experiment] = {
    "trac-table-1": Experiment(
        "TraC, Tables 1 and 5, Figures 2 and 3",
        "TraC is safe on average in each of the three suites and on every task of Bullet and MetaDrive; of the "
        "others only BC-Safe is safe in all three, and earns less; BC-All, BCQ-Lag and COptiDICE are safe in none.",
        (
            *_each("safe", "TraC", "BC-Safe", over=(_GYM, _BULLET, _METADRIVE)),
            *_each("safe everywhere", "TraC", over=(_BULLET, _METADRIVE)),
            *(Claim("more reward", "TraC", "BC-Safe", where) for where in (_GYM, _BULLET, _METADRIVE)),
            *_each("unsafe", "BC-All", "BCQ-Lag", "COptiDICE", over=(_GYM, _BULLET, _METADRIVE)),
            *_each("unsafe", "CDT", "BEAR-Lag", "CPQ", over=(_GYM, _BULLET)),
        ),
        _SUITES,
        ("bc-all", "bc-safe", "cdt", "bcq-lag", "bear-lag", "cpq", "coptidice", "trac"),
    ),
    "trac-top": _ablation(
        "trac-top",
        "The share x of safe trajectories that count as desirable hardly changes the reward; on AntCircle the cost "
        "falls as x grows.",
        Claim("reward alike", "TraC (x 0.25)", "TraC (x 1)"),
        Claim("reward alike", "TraC (x 0.5)", "TraC (x 1)"),
        Claim("reward alike", "TraC (x 0.75)", "TraC (x 1)"),
        Claim("less cost", "TraC (x 1)", "TraC (x 0.25)", ("AntCircle",)),
    ),
    "trac-bottom": _ablation(
        "trac-bottom",
        "The share y of safe trajectories that count as undesirable hardly changes anything.",
        Claim("reward alike", "TraC (y 0)", "TraC (y 0.25)"),
        Claim("reward alike", "TraC (y 0)", "TraC (y 0.5)"),
        *_each("safe", "TraC (y 0)", "TraC (y 0.25)", "TraC (y 0.5)"),
    ),
    "trac-weight-floor": _ablation(
        "trac-weight-floor",
        "The least weight delta of a segment hardly changes anything.",
        Claim("reward alike", "TraC (delta 0)", "TraC (delta 0.7)"),
        Claim("reward alike", "TraC (delta 0.4)", "TraC (delta 0.7)"),
        Claim("reward alike", "TraC (delta 1)", "TraC (delta 0.7)"),
        *_each("safe", "TraC (delta 0)", "TraC (delta 0.4)", "TraC (delta 0.7)", "TraC (delta 1)"),
    ),
    "trac-eta": _ablation(
        "trac-eta",
        "The reward falls as the weight eta of undesirable segments grows, and the cost stays where it is.",
        Claim("more reward", "TraC (eta 0.25)", "TraC (eta 2)"),
        *_each("safe", "TraC (eta 0.25)", "TraC (eta 2)"),
    ),
    "trac-temperature": _ablation(
        "trac-temperature",
        "TraC does well at every temperature alpha; with a lower one the cost falls on AntCircle and CarPush1, and "
        "the reward grows on mediummean.",
        *_each("safe", *(f"TraC (alpha {value})" for value in ("0.05", "0.1", "0.2", "0.5"))),
        Claim("less cost", "TraC (alpha 0.05)", "TraC (alpha 0.5)", ("AntCircle", "CarPush1")),
        Claim("more reward", "TraC (alpha 0.05)", "TraC (alpha 0.5)", ("mediummean",)),
    ),
    "trac-one-sided": _ablation(
        "trac-one-sided",
        "Undesirable segments alone give next to no reward, desirable ones alone leave some cost, and both together "
        "do best.",
        Claim("more reward", "TraC (both)", "TraC (undesirable only)"),
        Claim("more reward", "TraC (desirable only)", "TraC (undesirable only)"),
        Claim("less cost", "TraC (both)", "TraC (desirable only)"),
        *_each("safe", "TraC (both)"),
    ),
    "trac-pretraining": _ablation(
        "trac-pretraining",
        "Without pretraining of the reference the reward falls from 0.61 to 0.12, and the cost rises from 0.52 to "
        "2.71.",
        Claim("more reward", "TraC (pretrained)", "TraC (not pretrained)"),
        Claim("less cost", "TraC (pretrained)", "TraC (not pretrained)"),
        *_each("safe", "TraC (pretrained)"),
        *_each("unsafe", "TraC (not pretrained)"),
    ),
    "trac-reference": _ablation(
        "trac-reference",
        "With a uniform reference the reward stays at 0.61 and the cost rises from 0.52 to 0.99, most of all on "
        "AntCircle.",
        Claim("reward alike", "TraC (pretrained)", "TraC (uniform)"),
        Claim("less cost", "TraC (pretrained)", "TraC (uniform)"),
        Claim("less cost", "TraC (pretrained)", "TraC (uniform)", ("AntCircle",)),
    ),
    "lspc-table-1": Experiment(
        "LSPC, Tables 1, 3, 4 and 5",
        "LSPC-O is safe on every task and earns more than LSPC-S, BC-Safe and FISOR; CPQ is unsafe on "
        "Safety-Gymnasium and Bullet.",
        (
            *_each("safe everywhere", "LSPC-O"),
            *_each("safe", "LSPC-S"),
            *(Claim("more reward", "LSPC-O", other) for other in ("LSPC-S", "BC-Safe", "FISOR")),
            *_each("unsafe", "CPQ", over=(_LSPC_GYM, _BULLET)),
        ),
        ("metadrive", *_LSPC_GYM, "bullet"),
        ("bc-safe", "cdt", "cpq", "fisor", "lspc"),
    ),
    "lspc-epsilon": _ablation(
        "lspc-epsilon",
        "With a larger restriction epsilon of the latent space LSPC-O earns more, and costs more.",
        Claim("more reward", "LSPC-O (epsilon 1)", "LSPC-O (epsilon 0.25)"),
        Claim("less cost", "LSPC-O (epsilon 0.25)", "LSPC-O (epsilon 1)"),
    ),
    "lspc-converse": _ablation(
        "lspc-converse",
        "With the roles reversed, a CVAE by reward and an encoder by cost, a small epsilon leaves the cost high.",
        Claim("less cost", "LSPC-O (LSPC)", "LSPC-O-Converse (converse)"),
        *_each("safe", "LSPC-O (LSPC)"),
    ),
    "lspc-lambda": _ablation(
        "lspc-lambda",
        "LSPC-S is safe at every inverse temperature lambda and earns more with a lower one; LSPC-O then earns more "
        "and costs more.",
        *_each("safe", "LSPC-S (lambda 1)", "LSPC-S (lambda 2)", "LSPC-S (lambda 4)"),
        Claim("more reward", "LSPC-S (lambda 1)", "LSPC-S (lambda 4)"),
        Claim("more reward", "LSPC-O (lambda 1)", "LSPC-O (lambda 4)"),
        Claim("less cost", "LSPC-O (lambda 4)", "LSPC-O (lambda 1)"),
    ),
    "lspc-xi": _ablation(
        "lspc-xi",
        "LSPC-S is safe with the expectile xi at 0.7 and at 0.5, and earns more at 0.5; LSPC-O costs more there.",
        *_each("safe", "LSPC-S (xi 0.5)", "LSPC-S (xi 0.7)"),
        Claim("more reward", "LSPC-S (xi 0.5)", "LSPC-S (xi 0.7)"),
        Claim("less cost", "LSPC-O (xi 0.7)", "LSPC-O (xi 0.5)"),
    ),
    "bars-table-1": Experiment(
        "BARS, Table 1",
        "At a limit of 10 BARS is safe on all nine tasks and earns more than FISOR on average (0.28 against 0.27); "
        "CPQ and COptiDICE are unsafe.",
        (
            *_each("safe everywhere", "BARS"),
            Claim("more reward", "BARS", "FISOR"),
            *_each("unsafe", "CPQ", "COptiDICE"),
        ),
        _BARS_GYM,
        ("bc-safe", "cpq", "coptidice", "fisor", "bars"),
        protocol="bars",
    ),
    "bars-quality-8-1": _quality("8:1"),
    "bars-quality-1-1": _quality("1:1"),
    "bars-quality-1-3": _quality("1:3"),
    "bars-limits": Experiment(
        "BARS, Table 3",
        "BARS earns more with a higher limit, 0.07, 0.10 and 0.20 at 10, 20 and 40 on CarGoal2, and is safe at each.",
        (
            Claim("more reward", "BARS at limit 40", "BARS at limit 20"),
            Claim("more reward", "BARS at limit 20", "BARS at limit 10"),
            *_each("safe", "BARS at limit 10", "BARS at limit 20", "BARS at limit 40"),
        ),
        ("CarGoal2",),
        ("bars",),
        cost_limits=(10.0, 20.0, 40.0),
        by_limit=True,
    ),
    "bars-anchor": _ablation(
        "bars-anchor",
        "The anchor in unsafe states raises the reward; BARS is safe without it too.",
        Claim("more reward", "BARS (anchored)", "BARS (no anchor)"),
        *_each("safe", "BARS (anchored)", "BARS (no anchor)"),
    ),
    "bars-reach-avoid": Experiment(
        "BARS, Figure 1",
        "From a log with many unsafe steps BARS still passes the hazards, where FISOR runs into them.",
        (Claim("less cost", "BARS", "FISOR"), *_each("safe", "BARS"), *_each("unsafe", "FISOR")),
        ("ReachAvoid",),
        ("fisor", "bars"),
        protocol="bars",
    ),
    "dspo-table-1": Experiment(
        "DSPO, Table 1",
        "From a log without costs and ten to fifteen safe demonstrations DSPO is safe on most tasks; cloning of "
        "everything, cloning of the demonstrations, TD3+BC, IQL, CQL, DWBC, RGM and CDT-V are mostly not.",
        (
            *_each("safe", "DSPO"),
            *_each("unsafe", "BC-All", "BC-Safe", "TD3+BC", "IQL", "CQL", "DWBC", "RGM", "CDT-V"),
        ),
        _SUITES,
        ("bc-all", "bc-safe", "td3-bc", "iql", "cql", "dwbc", "rgm", "cdt-v", "dspo"),
        cost_limits=(20.0,),
        filters=_DEMONSTRATIONS,
        beyond="The paper collected logs of its own, and which tasks and limits its table has is not known here.",
    ),
    "dspo-backbone": _ablation(
        "dspo-backbone",
        "A transformer tells safe episodes from unsafe ones more often than an MLP of its size.",
        filters=_DEMONSTRATIONS,
        beyond="The paper says it of the signal and not of policies: safetrax signal on the run folders measures it.",
    ),
    "dspo-return-agnostic": _ablation(
        "dspo-return-agnostic",
        "With the bound on what the signal knows of the return, more safe episodes are found and the policy is safe; "
        "with a gradient penalty instead the policy is not.",
        *_each("safe", "DSPO (vclub)"),
        *_each("unsafe", "DSPO (gradient-penalty)"),
        filters=_DEMONSTRATIONS,
        beyond="Which episodes are found, safetrax signal on the run folders measures.",
    ),
}
