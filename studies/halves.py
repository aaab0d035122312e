"""A log in two halves, for policies that are certified on what they were not trained on.

    python studies/halves.py LOG FOLDER

Writes FOLDER/train/NAME and FOLDER/held/NAME: every other episode in the order of cost and return, so that both hold
the same kinds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import safetrax as st


def main(log: str, folder: str) -> None:
    data = st.load(log)
    order = np.lexsort((data.returns, data.cost_returns))
    for name, half in (("train", order[::2]), ("held", order[1::2])):
        path = Path(folder) / name / Path(log).name
        path.parent.mkdir(parents=True, exist_ok=True)
        st.write_hdf5(path, data.select(np.sort(half)))
        print(f"{path}: {len(half)} episodes")


if __name__ == "__main__":
    main(*sys.argv[1:])
