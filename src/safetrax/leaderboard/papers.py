"""Where published figures come from, how they were obtained, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

_DSRL = "DSRL's files"


@dataclass(frozen=True, kw_only=True)
class PublishedSource:
    """One paper, or one picture in a repository.

    Attributes:
        key: short name, as on the command line.
        title: of the paper.
        authors: of the paper.
        venue: and year.
        arxiv: its identifier there; None if it is not known to be there.
        place: where the tables are.
        algorithms: those that the source itself proposes; its other columns are for comparison.
        limits: at which episode cost limits it scores.
        seeds: training seeds of one cell and limit; None if not stated.
        episodes: evaluation episodes of one policy; None if not stated.
        data: what the algorithms were trained on. All sources normalise with DSRL's constants.
        checkpoint: which one was evaluated.
        checkpoint_stated: False where the source's own algorithms may be at a checkpoint chosen in the environment.
        faults: what is wrong with its figures, in whole sentences.
    """

    key: str
    title: str
    authors: str
    venue: str
    arxiv: str | None
    place: str
    algorithms: tuple[str, ...]
    limits: str
    seeds: int | None
    episodes: int | None
    data: str = _DSRL
    checkpoint: str
    checkpoint_stated: bool = True
    faults: tuple[str, ...]

    @property
    def reference(self) -> str:
        """One line to cite it."""
        arxiv = "" if self.arxiv is None else f", arXiv:{self.arxiv}"
        return f"{self.authors}, {self.title}, {self.venue}{arxiv}"


_THREE_LIMITS = "three per suite: 20, 40, 80 on Safety-Gymnasium, 10, 20, 40 on the others; a cell is their mean"
_TRAC_AVERAGE = (
    "TraC's average on Safety-Gymnasium is printed as 0.40 / 0.92, but its 21 cells give 0.382 / 0.897; without "
    "CarPush2 they give what is printed."
)
_COPIED = "The columns of the baselines equal LSPC's: both seem to be copied from DSRL's own paper."

_TRAC = PublishedSource(
    key="trac",
    title="Offline Safe Reinforcement Learning Using Trajectory Classification",
    authors="Z. Gong, A. Kumar, P. Varakantham",
    venue="AAAI 2025",
    arxiv="2412.15429",
    place="Tables 2, 3, 5, 6",
    algorithms=("TraC",),
    limits=_THREE_LIMITS,
    seeds=3,
    episodes=20,
    checkpoint="the last",
    faults=(
        _TRAC_AVERAGE,
        "TraC's column on MetaDrive (mean 0.35 / 0.05) has the cost of one crash nearly everywhere, probably "
        "from an incompatible MetaDrive; the repository's later figures (trac-repository) replace it.",
        "Some cells of Table 2 are printed twice, or differ from Table 5 at the same settings.",
        _COPIED,
    ),
)

_ALL = (
    _TRAC,
    replace(
        _TRAC,
        key="trac-repository",
        venue="picture in the code's repository",
        place="results.png in github.com/zgong11/TraC, read off by eye",
        faults=(
            _TRAC_AVERAGE,
            "TraC's average cost on MetaDrive is printed as 0.55, but its cells give 0.544.",
            "BC-All's reward on AntRun is printed as 0.70, where the papers have 0.72.",
            "It does not say what its ± is, nor its protocol, which is taken to be the paper's.",
            _COPIED,
        ),
    ),
    PublishedSource(
        key="lspc",
        title="Latent Safety-Constrained Policy Approach for Safe Offline Reinforcement Learning",
        authors="P. Koirala, Z. Jiang, S. Sarkar, C. Fleming",
        venue="ICLR 2025",
        arxiv="2412.08794",
        place="Tables 1, 3, 4, 5",
        algorithms=("LSPC-S", "LSPC-O"),
        limits=_THREE_LIMITS,
        seeds=3,
        episodes=None,
        checkpoint="not stated; the code keeps the last, and the one with the highest reward within the limit",
        checkpoint_stated=False,
        faults=(
            "Five cells and one average are misprints, as other tables and the printed averages show.",
            "FISOR's column is FISOR's own table converted as if its limit had been 5 everywhere; it was 10 on "
            "Safety-Gymnasium, so that the costs there are half of what they should be. On hardmean FISOR's figure "
            "was not converted at all.",
            "LSPC-S on Walker2dVelocity (cost 1.28) is set in bold as safe.",
            "Safety-Gymnasium has 11 of the 21 tasks.",
            "The columns of the other baselines are copied from DSRL's own paper.",
        ),
    ),
    PublishedSource(
        key="fisor",
        title="Safe Offline Reinforcement Learning with Feasibility-Guided Diffusion Model",
        authors="Y. Zheng, J. Li, D. Yu, Y. Yang, S. E. Li, X. Zhan, J. Liu",
        venue="ICLR 2024",
        arxiv="2401.10700",
        place="Table 1, from the picture in its repository",
        algorithms=("FISOR",),
        limits="one per suite: 10 on Safety-Gymnasium, 5 on the others",
        seeds=3,
        episodes=20,
        checkpoint="the last",
        faults=(
            "Its limits are half of the benchmark's strictest, so that its costs are not comparable with "
            "means over the benchmark's three.",
            "Safety-Gymnasium has 9 of the 21 tasks.",
        ),
    ),
    PublishedSource(
        key="bars",
        title="Rethinking Behavior Regularization in Offline Safe RL: A Region-Based Approach",
        authors="anonymous authors",
        venue="submission under review, 2025",
        arxiv=None,
        place="Tables 1 to 5",
        algorithms=("BARS",),
        limits="10 (Table 3: 10, 20, 40 on CarGoal2)",
        seeds=None,
        episodes=20,
        data=f"{_DSRL} in Tables 1, 3, 4; mixtures of safe and unsafe transitions in Table 2",
        checkpoint="not stated",
        faults=(
            "Nine tasks of Safety-Gymnasium at a single limit of 10, and no number of seeds.",
            "Averages are cut off, not rounded: 0.268 / 0.72 is 0.269 / 0.73, for instance.",
            "FISOR's column is the authors' own training, and differs from FISOR's table.",
        ),
    ),
    PublishedSource(
        key="b2r",
        title="Boundary-to-Region Supervision for Offline Safe Reinforcement Learning",
        authors="H. Su, D. Peng, Z. Zhuang, Y. Liu, Q. Chen, D. Wang, Q. Liu",
        venue="NeurIPS 2025",
        arxiv="2509.25727",
        place="a picture of six tasks in github.com/HuikangSu/B2R; the paper's full table is not here",
        algorithms=("B2R",),
        limits="not stated in the picture",
        seeds=None,
        episodes=None,
        checkpoint="not stated",
        faults=(
            "FISOR's column is FISOR's own table, at FISOR's limits of 10 and 5; which limits B2R's column has, the "
            "picture does not say.",
        ),
    ),
)

SOURCES: Mapping[str, PublishedSource] = {source.key: source for source in _ALL}
