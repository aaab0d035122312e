"""What came of a paper's table or figure: its finding and ours as a page in Markdown, with a figure beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from safetrax.charts.drawing import save
from safetrax.evaluation.episodes import EpisodeRow
from safetrax.evaluation.run_scores import RunScore, run_scores
from safetrax.evaluation.statistics import benchmark_table
from safetrax.files import exact, write_text
from safetrax.grid.benchmark_folder import BenchmarkFolder
from safetrax.grid.experiments import Experiment
from safetrax.grid.grid import Job
from safetrax.leaderboard.own_results import own_results
from safetrax.leaderboard.rendering import figure
from safetrax.report.verdicts import ALIKE, SEEDS, Ruling, judge_all, verdict_chart
from safetrax.runs import job_states, read_job, require_undamaged

_RULE = (
    "A claim is judged by one number per seed, the mean over tasks and limits, and Student's 95 % interval over the "
    f"seeds, at least {SEEDS}: a difference agrees if its interval lies on the claimed side of 0, rewards are alike "
    f"within {exact(ALIKE)}, safe is a normalised cost of at most 1; an interval on both sides is not decidable."
)


def write_reproduction(
    folder: BenchmarkFolder, name: str, experiment: Experiment, jobs: Sequence[Job]
) -> tuple[Ruling, tuple[Path, ...]]:
    """Judge the jobs that are done, and write NAME.md, NAME.png and NAME.svg into the folder.

    Args:
        folder: of the benchmark.
        name: of the experiment.
        experiment: which.
        jobs: all that it has here, whether they are done or not.

    Returns:
        The judgement, and the files.

    Raises:
        RunError: a job's files are damaged, or a file cannot be written.
        DataError: a job's results are damaged or incomplete.
    """
    states = {state.job.name: state for state in job_states(folder)}
    require_undamaged(states[job.name] for job in jobs)
    done = [job for job in jobs if states[job.name].name == "done"]
    rows: dict[str, list[EpisodeRow]] = {}
    limits = {job.task: job.cost_limits for job in done}
    for job in done:
        rows.setdefault(job.task, []).extend(read_job(folder, job).rows)
    scores = [score for task, own in rows.items() for score in run_scores(own, limits[task])]
    whole, each = judge_all(experiment, scores, len(jobs) - len(done))
    lines = [
        f"# {name}: {whole.sentence}",
        "",
        f"**The paper** ({experiment.source}): {experiment.finding}",
        "",
        f"**Ours:** {whole.sentence}.",
        "",
        *(f"* {one.sentence}." for one in each),
        *([f"* {experiment.beyond}"] if experiment.beyond else []),
        "",
        _RULE,
        "",
        *_table(rows, limits),
        "",
        *_differences(folder, experiment, done, scores),
    ]
    page = folder.path / f"{name}.md"
    write_text(page, "\n".join(lines).rstrip() + "\n")
    if not scores:
        return whole, (page,)
    chart = verdict_chart(experiment, scores)
    return whole, (page, *(save(chart, folder.path / f"{name}{ending}") for ending in (".png", ".svg")))


def _table(rows: dict[str, list[EpisodeRow]], limits: dict[str, tuple[float, ...]]) -> Iterator[str]:
    """Of the results, safe ones bold."""
    yield "| task | algorithm | seeds | reward | cost | safe |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for task, own in rows.items():
        for cell in benchmark_table(own, limits[task]):
            reward, cost = (figure(e.mean, e.error) for e in (cell.normalised_return, cell.normalised_cost))
            shown = f"**{reward}** | **{cost}** | yes" if cell.safe else f"{reward} | {cost} | no"
            yield f"| {task} | {cell.algorithm} | {cell.seeds} | {shown} |"


def _differences(
    folder: BenchmarkFolder, experiment: Experiment, done: Sequence[Job], scores: Sequence[RunScore]
) -> Iterator[str]:
    """What sets this apart from the paper's, each sentence with those of whom it is true."""
    found: dict[str, list[str]] = {}
    for result in own_results(folder.run_folder(job).path for job in done):
        for sentence in result.differences:
            found.setdefault(sentence, []).append(f"{result.summary.algorithm} on {result.summary.task}")
    yield f"The paper has it on {', '.join(experiment.tasks)}. What sets this apart from what is published:"
    yield ""
    count = len({(score.algorithm, score.task) for score in scores})
    for sentence, whose in found.items():
        yield f"* {sentence}" if len(whose) == count else f"* {sentence} ({', '.join(dict.fromkeys(whose))})"
