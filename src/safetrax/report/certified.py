"""What logs alone say of the policies, beside what the simulator says, where runs have certificates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from safetrax.certification.certificate import FILE, Certificate, read_certificates
from safetrax.errors import DataError
from safetrax.files import exact
from safetrax.runs import Caution, Training

_HEADINGS = ("limit", "seed", "cost at most", "estimated", "simulator", "supported", "self-tests held", "raised by")


@dataclass(frozen=True)
class Certified:
    """A certificate of a run.

    Attributes:
        certificate: from its folder.
        simulated: mean cost of the policy's evaluated episodes; None where there are none.
    """

    certificate: Certificate
    simulated: float | None


def read_certified(trainings: Sequence[Training], cautions: list[Caution]) -> tuple[Certified, ...]:
    """The certificates in the trainings' folders; what cannot be read is a caution."""
    found: list[Certified] = []
    damaged: list[str] = []
    for training in trainings:
        if (file := training.folder / FILE).exists():
            try:
                found += [Certified(entry, _simulated(entry, training)) for entry in read_certificates(file)]
            except DataError as error:
                damaged.append(str(error))
    broken = [
        f"{entry.certificate.policy}: {entry.simulated:.3g}, said to be at most {entry.certificate.cost_bound:.3g}"
        for entry in found
        if entry.simulated is not None
        and entry.certificate.cost_bound is not None
        and entry.simulated > entry.certificate.cost_bound
    ]
    said = {"Certificates that could not be read.": damaged, "The simulator's mean cost is above a bound.": broken}
    cautions += [Caution(sentence, tuple(items)) for sentence, items in said.items() if items]
    return tuple(found)


def table(rows: Sequence[Certified]) -> str:
    """As HTML; nothing if there are none."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col" class="number">{name}</th>' for name in _HEADINGS)
    head = f'<tr><th scope="col">policy</th>{head}<th scope="col">verdict</th></tr>'
    return f"<table><thead>{head}</thead><tbody>{''.join(_rows(rows))}</tbody></table>"


def _rows(rows: Sequence[Certified]) -> Iterator[str]:
    for row in rows:
        entry = row.certificate
        numbers = (
            exact(entry.cost_limit),
            str(entry.policy.seed),
            "-" if entry.cost_bound is None else f"{entry.cost_bound:.1f}",
            f"{entry.cost:.1f}",
            "-" if row.simulated is None else f"{row.simulated:.1f}",
            f"{entry.supported:.0%}",
            f"{entry.held} of {entry.tests}",
            f"{entry.raised:.1f}",
        )
        verdict = f"no bound: {entry.refusal}" if entry.refusal else "within" if entry.safe else "not shown"
        name = " ".join(filter(None, (entry.policy.task, entry.policy.algorithm)))
        cells = "".join(f'<td class="number value">{number}</td>' for number in numbers)
        yield (
            f'<tr class="{"safe" if entry.safe else ""}"><th scope="row" class="name">{escape(name)}</th>{cells}'
            f'<td class="verdict">{escape(verdict)}</td></tr>'
        )


def _simulated(entry: Certificate, training: Training) -> float | None:
    costs = [row.cost for row in training.rows if row.run == entry.policy]
    return float(np.mean(costs)) if costs else None
