"""The structure that docs/design.md draws: rooms one above the other, no circle, no name twice by accident."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import safetrax

PACKAGE = Path(safetrax.__file__).parent

# From the ground up. A room imports from itself and from rooms below, anywhere in its files.
ROOMS = (
    ("_version", "errors"),
    ("files", "settings", "progress", "packages", "hub", "spaces"),
    ("run_id", "catalogue", "charts"),
    ("data",),
    ("nets",),
    ("losses",),
    ("policies",),
    ("algorithms",),
    ("envs",),
    ("monitoring",),
    ("evaluation",),
    ("training",),
    ("runtime",),
    ("collection", "grid", "certification", "exporting"),
    ("runs",),
    ("leaderboard",),
    ("report",),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(ROOMS) for name in names}

# Two files of one name are one thing seen from two sides: a verb and what it calls, or what each of many rooms has.
TWICE = {
    "__init__": "a room",
    "base": "what each filter and each algorithm is",
    "registry": "which filters and which algorithms there are",
    "download": "the verb and what it calls",
    "leaderboard": "the verb and what it calls",
    "diffusion": "the process and the policy that draws from it",
    "latent": "the losses of a latent space and the policy that decodes it",
    "train": "the verb and what it calls",
    "certify": "the verb and what it calls",
    "export": "the verb and what it calls",
    "monitor": "the verb and what it makes",
}
# Arrows to a higher room, each with its reason; all are inside functions.
UP = {
    ("algorithms.registry", "algorithms.base"): "classes are loaded when asked for",
    ("data.trajectories", "data.formats.hdf5"): "a log that is pushed to the hub is written first",
}


def modules() -> Iterator[tuple[str, Path]]:
    """Dotted names below the package, and files."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts), path


NAMES = dict(modules())


def imported(tree: ast.AST, late: bool) -> Iterator[str]:
    """Modules of the package that are imported, at once or (`late`) inside functions; not those for annotations."""

    def walk(node: ast.AST, inside: bool) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.ImportFrom | ast.Import) and inside == late:
                yield from targets(child)
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, inside or function)

    yield from walk(tree, False)


def targets(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """The modules of the package that a statement imports."""
    names = [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{name}" for name in names]
    for name in names:
        inner = name.removeprefix("safetrax").lstrip(".") if name.split(".")[0] == "safetrax" else None
        while inner is not None and inner not in NAMES:
            inner = inner.rpartition(".")[0] if "." in inner else None
        if inner:
            yield inner


TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in NAMES.items()}
EAGER = {name: set(imported(tree, late=False)) - {name} for name, tree in TREES.items()}
LATE = {name: set(imported(tree, late=True)) - {name} for name, tree in TREES.items()}


def room(name: str) -> str:
    return name.partition(".")[0]


def test_no_circle_of_imports():
    try:
        TopologicalSorter(EAGER).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_every_room_has_its_place():
    assert {room(name) for name in NAMES} - {"__init__"} == set(LEVEL)


def test_rooms_import_from_below():
    up = [
        f"{name} imports {other}{' late' if other in LATE[name] else ''}"
        for name in NAMES
        if name != "__init__"
        for other in EAGER[name] | LATE[name]
        if LEVEL[room(other)] >= LEVEL[room(name)] and room(other) != room(name) and (name, other) not in UP
    ]
    assert not up, "\n".join(up)


def test_a_late_import_hides_no_circle():
    """Together with the late imports of the same room there is none either."""
    graph = {
        name: EAGER[name] | {other for other in LATE[name] if room(other) == room(name) and (name, other) not in UP}
        for name in NAMES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle with late imports: {' <- '.join(error.args[1])}")


def test_nothing_imports_the_top():
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "safetrax":
                assert name == "__init__" or {alias.name for alias in node.names} <= set(NAMES), name
            if isinstance(node, ast.Import):
                assert "safetrax" not in [alias.name for alias in node.names], name


def test_no_algorithm_imports_another():
    from safetrax.algorithms.registry import HOMES

    files = {home.partition(":")[0].removeprefix("safetrax.") for home in HOMES.values()}
    for name in files:
        assert not (EAGER[name] | LATE[name]) & files, name


def test_what_files_may_name_is_imported_with_the_policies():
    """Else a policy is saved that another process cannot load."""
    reached, todo = set(), ["policies"]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += EAGER[name]
    saveable = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and "saveable" in map(ast.unparse, node.decorator_list)
    }
    assert len(saveable) > 5
    assert saveable <= reached, saveable - reached


def test_names_of_files_are_there_once():
    counts = Counter(path.stem for path in NAMES.values())
    twice = {stem for stem, count in counts.items() if count > 1}
    assert twice == set(TWICE)
