"""The certificate: what a log says of one policy at one cost limit, and the file that keeps it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from safetrax.errors import DataError
from safetrax.files import exact, read_json, write_json
from safetrax.run_id import RunId
from safetrax.settings import require_ranges_of

FILE = "certificates.json"  # in a run folder
ESTIMATORS = ("fitted Q", "doubly robust", "world model")


@dataclass(frozen=True)
class Certificate:
    """A bound on the cost of an episode, or the reason why there is none.

    Attributes:
        policy: which one.
        cost_limit: of an episode.
        confidence: of each bound, in (0.5, 1).
        cost: estimated, of an episode, by the estimator that self-tests trust most among those that settle.
        cost_bound: most, with the confidence; None where there is none to give.
        return_: estimated return of an episode, likewise.
        return_bound: least, with the confidence; None likewise.
        estimator: which it is, of the cost.
        supported: share of its visits in which the policy's action is near a logged one.
        episodes: effective number of logged episodes that the estimate rests on.
        disagreement: how much more the second best estimator says of the cost, 0 where it is not known.
        raised: by how much the bound of the cost was raised for the self-tests' sake.
        held: self-tests in which the cost was within the bound without that.
        tests: self-tests.
        horizon: steps of an episode.
        resamples: of the log's episodes.
        data: hash of the log.
        refusal: why there is no bound; empty where there is one.
    """

    policy: RunId
    cost_limit: float
    confidence: float
    cost: float
    cost_bound: float | None
    return_: float
    return_bound: float | None
    estimator: str
    supported: float
    episodes: float
    disagreement: float
    raised: float
    held: int
    tests: int
    horizon: int
    resamples: int
    data: str
    refusal: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "policy": self.policy._asdict()}

    @property
    def safe(self) -> bool:
        """Whether the bound is within the limit."""
        return self.cost_bound is not None and self.cost_bound <= self.cost_limit

    def __str__(self) -> str:
        if self.cost_bound is None:
            return f"{self.policy}: no bound of its cost, for {self.refusal}."
        raised = f", and raised by {self.raised:.3g} so that all hold" if self.raised else ""
        return (
            f"{self.policy}: cost at most {_up(self.cost_bound)} of {exact(self.cost_limit)} with "
            f"{100 * self.confidence:.4g} % confidence, on {self.supported:.0%} supported states; held in "
            f"{self.held} of {self.tests} self-tests{raised}."
        )


def _up(value: float) -> str:
    """Three digits, never less than the value."""
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return exact(math.ceil(value * 10**digits) / 10**digits)


def write_certificates(path: Path, rows: Iterable[Certificate]) -> None:
    """Write them, atomically.

    Raises:
        RunError: the file cannot be written.
    """
    write_json(path, [row.to_json() for row in rows])


def read_certificates(path: Path) -> list[Certificate]:
    """The rows of a file that `write_certificates` wrote.

    Raises:
        DataError: it is missing or damaged, or a value is impossible.
    """
    try:
        found, rows = [], read_json(path)
        if not isinstance(rows, list):
            raise ValueError("it holds no rows")
        for row in rows:
            if set(row) != {entry.name for entry in fields(Certificate)}:
                raise ValueError("a row has other names")
            require_ranges_of(RunId, row["policy"])
            certificate = Certificate(**{**row, "policy": RunId(**row["policy"])})
            numbers = [value for name, value in row.items() if name not in ("policy", "data", "refusal", "estimator")]
            if not all(value is None or math.isfinite(value) for value in numbers):
                raise ValueError("a number is not finite")
            found.append(certificate)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged or no file of certificates ({error}); run safetrax certify anew."
        ) from error
    return found
