"""What the pages say and can be checked: links, and the settings that algorithms' pages repeat with a remark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from safetrax.algorithms import Algorithm
from safetrax.algorithms.registry import HOMES, class_named
from safetrax.grid.experiments import EXPERIMENTS

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
OF_ALGORITHMS = {home.partition(":")[0].rpartition(".")[2].replace("_", "-"): name for name, home in HOMES.items()}
SUITES = {"Bullet": "bullet", "Safety-Gymnasium": "safety_gymnasium", "MetaDrive": "metadrive"}


def text(page: Path) -> str:
    """Without blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", text(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text(page))):
        if not target.startswith(("https://", "http://")):
            file, _, anchor = target.partition("#")
            place = page.parent / file if file else page
            assert place.exists(), target
            assert not anchor or anchor in anchors(place), target


def test_the_site_has_every_page():
    listed = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert {page.name for page in ROOT.glob("docs/*.md")} == {name for name in listed if "/" not in name} - {
        "changes.md"
    }
    assert {f"{name}.md" for name in OF_ALGORITHMS} <= listed


def test_every_experiment_of_the_papers_has_its_row():
    rows = re.findall(r"^\| `(\w[\w-]+)` \| (.+?) \|", text(ROOT / "docs" / "reproduced.md"), flags=re.MULTILINE)
    assert rows == [(name, own.source.partition(", ")[2]) for name, own in EXPERIMENTS.items()]


def repeated(page: Path, kind: type[Algorithm]) -> Iterator[tuple[str, str, Algorithm]]:
    """Settings in the tables of a page, with what is said of each, and the preset that has it."""
    section = re.split(r"^## ", text(page), flags=re.MULTILINE)
    (settings,) = [part for part in section if part.startswith("Settings")] or [""]
    presets: dict[int, Algorithm] = {}
    for line in re.findall(r"^\|(.*)\|$", settings, flags=re.MULTILINE):
        cells = [cell.strip() for cell in line.split("|")]
        names = re.findall(r"`(\w+)`", cells[0])
        if not names and "---" not in line:  # a head
            heads = {place: cell.partition(", ") for place, cell in enumerate(cells)}
            presets = {
                place: kind() if title == "default" else kind.published(SUITES[title], task or None)
                for place, (title, _, task) in heads.items()
                if title in {"default", *SUITES}
            }
        for place, preset in presets.items():
            said = re.split(r", | / ", re.sub(r" ?\(.*?\)|:.*", "", cells[place]))
            for name, value in zip(names, said, strict=False):
                if not name.startswith("_"):
                    yield name, value, preset


def number(said: str) -> Any:
    """What a page calls a value; None where it is a phrase."""
    words = {"none": "None", "on": "True", "off": "False", "true": "True", "false": "False"}
    if re.fullmatch(r"-?\d[\d,]*(\.\d+)?(e-?\d+)?k?", said):
        return float(said.replace(",", "").replace("k", "e3"))
    return words.get(said, said) if re.fullmatch(r"\w+", said) else None


@pytest.mark.parametrize("name", OF_ALGORITHMS)
def test_settings_are_as_their_page_says(name):
    kind = class_named(OF_ALGORITHMS[name])
    for setting, said, preset in repeated(ROOT / "docs" / f"{name}.md", kind):
        value, read = getattr(preset, setting), number(said)
        if isinstance(value, float | int) and not isinstance(value, bool) and isinstance(read, float):
            assert value == read, (setting, said)
        elif isinstance(value, bool | str) and isinstance(read, str):
            assert str(value) == read, (setting, said)


def test_enough_of_them_are_compared():
    pages = ((ROOT / "docs" / f"{name}.md", class_named(kind)) for name, kind in OF_ALGORITHMS.items())
    said = [number(said) for page, kind in pages for _, said, _ in repeated(page, kind)]
    assert sum(value is not None for value in said) > 150
