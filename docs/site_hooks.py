"""What the site has and no page on GitHub: the Python reference, every setting, examples, formulas as drawings."""

from __future__ import annotations

import importlib
import logging
import re
from html import escape, unescape
from pathlib import Path
from typing import Any

import ziamath
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

import safetrax as st
from safetrax.algorithms import registry
from safetrax.settings import attribute_docs, settings_of

ROOT = Path(__file__).parent.parent
SUITES = {"bullet": "Bullet", "safety_gymnasium": "Safety-Gymnasium", "metadrive": "MetaDrive"}
ALGORITHMS = {
    home.partition(":")[0].rpartition(".")[2].replace("_", "-"): name for name, home in registry.HOMES.items()
}

# Of each page the title and what of the library is on it: names of `safetrax` itself, or of a module of it.
REFERENCE = {
    "data": (
        "Data",
        "load download Trajectories from_pandas to_pandas to_minari write_hdf5 write_npz write_parquet validate "
        "tasks get_task apply_filters dsrl_preprocess collect Collection reach_avoid_data catalogue:Task "
        "data.validation:Finding data.filters:Filter data.filters:Selection data.filters:parse_filters",
    ),
    "algorithms": (
        "Algorithms",
        "Algorithm algorithms.base:Spec algorithms.base:Stage algorithms.base:Variant algorithms.base:Usage "
        "algorithms.learners:Learner algorithms.learners:ActionBounds algorithms.learners:policy_network "
        "data.store:Store data.store:TransitionIndex nets.saving:saveable",
    ),
    "training": (
        "Training and policies",
        "train Run RunId Reporter training.logs:MetricRow Policy Policies policies:Actor "
        "training.generated:generated training.generated:safety_signal",
    ),
    "evaluation": (
        "Environments and evaluation",
        "make_env evaluate Evaluation record_gif ReachAvoid evaluation.episodes:EpisodeRow "
        "evaluation.episodes:read_episodes evaluation.statistics:summarise evaluation.statistics:benchmark_table "
        "evaluation.statistics:Summary evaluation.statistics:Estimate evaluation.run_scores:run_scores "
        "evaluation.run_scores:RunScore evaluation.aggregates:aggregates evaluation.comparisons:compare",
    ),
    "deployment": (
        "Trust and deployment",
        "certify Certificate certification.certify:choose certification.examiner:Examiner "
        "certification.examiner:Options export runtime:Runtime fit_monitor Monitor monitoring:Verdict Guard "
        "monitoring:Intervention",
    ),
    "benchmarks": (
        "Benchmarks and reports",
        "report.page:report_page leaderboard.leaderboard:leaderboard leaderboard.published:published "
        "leaderboard.published:published_averages runs:read_sources data.segment_chart:segment_chart "
        "charts.drawing:save",
    ),
    "errors": (
        "Errors",
        "SafeTraXError errors:DataError errors:ConfigError errors:TaskError errors:RunError errors:SimulatorError "
        "errors:SafeTraXWarning",
    ),
}

# Griffe, which reads and does not run, cannot know the algorithms' names in `__all__`; on_files looks at all of it.
logging.getLogger("mkdocs.plugins.griffe").addFilter(
    lambda record: "safetrax.__all__: HOMES" not in record.getMessage()
)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made of the code, the changes and the examples."""
    listed = {name for _, names in REFERENCE.values() for name in names.split()}
    missing = set(st.__all__) - listed - set(registry.HOMES) - {"__version__"}
    if missing:
        raise PluginError(f"the reference lacks {', '.join(sorted(missing))}; name it in docs/site_hooks.py.")
    for page, (title, names) in REFERENCE.items():
        text = "\n\n".join([f"# {title}", *map(_entry, names.split())])
        files.append(File.generated(config, f"reference/{page}.md", content=text))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "changes.md", content=changes))
    for example in sorted((ROOT / "examples").rglob("*.*")):
        if example.suffix in (".py", ".ipynb"):
            name = example.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(example)))
    return files


def _entry(name: str) -> str:
    """What mkdocstrings makes the entry of: the place where it is written, under the name by which it is imported."""
    module, _, inner = name.rpartition(":")
    found = getattr(importlib.import_module(f"safetrax.{module}") if module else st, inner)
    heading = ".".join(filter(None, ("safetrax", module, inner)))
    return f"::: {found.__module__}.{found.__qualname__}\n    options:\n      heading: {heading}"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to the examples as the site has them; below an algorithm's page all its settings."""
    markdown = markdown.replace("](../examples/", "](examples/")
    name = ALGORITHMS.get(Path(page.file.src_uri).stem)
    return markdown if name is None else f"{markdown}\n\n{_settings(registry.class_named(name))}"


def _settings(kind: Any) -> str:
    """A table of the fields: default, what the suites and the fast schedule have instead, meaning."""
    base, docs = settings_of(kind()), attribute_docs(kind)
    others = {title: settings_of(kind.published(suite)) for suite, title in SUITES.items()} | {
        "fast": dict(kind.fast)
    }
    lines = ["## All settings", f"`st.{kind.__name__}`; a preset of a single task may differ further.", ""]
    lines += ["| setting | default | otherwise | |", "| --- | --- | --- | --- |"]
    for name, value in base.items():
        differ = [f"{title}: {_cell(own[name])}" for title, own in others.items() if own.get(name, value) != value]
        cells = (_code(name), _cell(value), "<br>".join(differ), docs[name].replace("|", "&#124;"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _code(name: str) -> str:
    return f'<code style="white-space: nowrap">{name}</code>'


def _cell(value: Any) -> str:
    return f"`{', '.join(map(str, value))}`" if isinstance(value, list | tuple) else f"`{value}`"


def on_page_content(html: str, **_: Any) -> str:
    """Formulas as SVG, so that no script has to come from elsewhere and every browser shows the same."""

    def drawn(found: re.Match[str]) -> str:
        latex, tag = unescape(found[2]), found[1]
        formula = ziamath.Latex(latex, size=16, color="currentColor", inline=tag == "span")
        place = f'role="img" aria-label="{escape(latex)}" style="vertical-align: {formula.getyofst():.1f}px"'
        return f"<{tag}>{formula.svg().replace('<svg ', f'<svg {place} ', 1)}</{tag}>"

    return re.sub(r'<(div|span) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', drawn, html, flags=re.DOTALL)
