"""Evaluation: episodes in the environment, their rows, and the scores and verdicts derived from them."""

from __future__ import annotations

from safetrax.evaluation.episodes import EpisodeRow, append_episodes, read_episodes, write_episodes
from safetrax.evaluation.result import Evaluation
from safetrax.evaluation.rollout import evaluate
from safetrax.evaluation.statistics import Summary, benchmark_table, summarise

__all__ = [
    "EpisodeRow",
    "Evaluation",
    "Summary",
    "append_episodes",
    "benchmark_table",
    "evaluate",
    "read_episodes",
    "summarise",
    "write_episodes",
]
