"""Tune TraC without a simulator, by Optuna (`pip install optuna`) or Ray Tune (`pip install "safetrax[ray,pandas]"`).

The log is cut into two halves. On the first, policies are trained and judged: a trial is worth the bound that its
certificate gives of the return, if the cost is bounded within the limit; else it is no candidate. The best is
certified on the second half, which has had no part in choosing it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import safetrax as st
from safetrax.certification.examiner import Examiner, Options
from safetrax.training.logs import MetricRow

Settings = dict[str, float]
RANGES = {"learning_rate": (1e-5, 1e-3), "temperature": (0.05, 1.0)}  # both on a logarithmic scale


class Losses(st.Reporter):
    """Hands the losses of a training on. They are no reason to stop a trial: other settings have another loss."""

    def __init__(self, tell: Callable[[float, int], None]) -> None:
        self.tell = tell

    def logged(self, rows: Sequence[MetricRow]) -> None:
        for row in rows:
            if row.metric == "loss":
                self.tell(row.value, row.update)


def train(settings: Settings, data: st.Trajectories, args: argparse.Namespace, reporter: st.Reporter) -> st.Policy:
    """TraC with these settings."""
    small = {"updates": args.updates, "pretrain_updates": args.updates}
    algorithm = replace(st.TraC.preset("bullet", schedule="fast"), **small, **settings)
    return st.train(
        algorithm, data, cost_limits=[args.cost_limit], log_every=max(args.updates // 10, 1), progress=reporter
    ).policies[0]


def worth(certificate: st.Certificate) -> float:
    """What is made as large as possible; minus infinity for what is no candidate."""
    return certificate.return_bound if certificate.safe else -math.inf


def with_optuna(data: st.Trajectories, examiner: Examiner, args: argparse.Namespace) -> Settings | None:
    import optuna

    def objective(trial: optuna.Trial) -> float:
        settings = {name: trial.suggest_float(name, *ends, log=True) for name, ends in RANGES.items()}
        policy = train(settings, data, args, Losses(trial.report))
        (certificate,) = st.certify([policy], examiner)
        trial.set_user_attr("certificate", str(certificate))
        if not certificate.safe:
            raise optuna.TrialPruned(str(certificate))
        return worth(certificate)

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=args.trials)
    return study.best_params if study.get_trials(states=[optuna.trial.TrialState.COMPLETE]) else None


def with_ray(data: st.Trajectories, examiner: Examiner, args: argparse.Namespace) -> Settings | None:
    from ray import tune

    def trainable(settings: Settings, data: st.Trajectories, examiner: Examiner) -> None:
        tell: Any = lambda loss, update: tune.report({"loss": loss, "update": update, "worth": -math.inf})  # noqa: E731
        (certificate,) = st.certify([train(settings, data, args, Losses(tell))], examiner)
        tune.report({"worth": worth(certificate)})

    tuner = tune.Tuner(
        tune.with_parameters(trainable, data=data, examiner=examiner),  # once in Ray's store, not once a trial
        param_space={name: tune.loguniform(*ends) for name, ends in RANGES.items()},
        tune_config=tune.TuneConfig(metric="worth", mode="max", num_samples=args.trials),
    )
    best = tuner.fit().get_best_result(filter_nan_and_inf=False)
    return best.config if best.metrics["worth"] > -math.inf else None


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="demo", help="the log; by default the one that ships with the package")
    parser.add_argument("--cost-limit", type=float, default=20)
    parser.add_argument("--tuner", choices=("optuna", "ray"), default="optuna")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--updates", type=int, default=500, help="of each of TraC's two stages")
    parser.add_argument("--model-updates", type=int, default=Options.model_updates, help="of the certificates' world")
    args = parser.parse_args(words)

    data = st.load(args.data)
    order = np.random.default_rng(0).permutation(data.num_episodes)
    first, second = (data.select(np.sort(half)) for half in np.array_split(order, 2))
    options = Options(model_updates=args.model_updates)
    settings = {"optuna": with_optuna, "ray": with_ray}[args.tuner](first, Examiner(first, options), args)
    if settings is None:
        print(f"no trial's cost is bounded by {args.cost_limit:g}: more trials, more updates, or a higher limit.")
        return
    print("chosen:", ", ".join(f"{name} {value:.3g}" for name, value in settings.items()))
    policy = train(settings, first, args, st.Reporter())  # the same bits as in its trial
    print("on the half that did not choose:", *st.certify([policy], second, options=options))


if __name__ == "__main__":
    main()
