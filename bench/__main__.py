"""`python -m bench [group ...]`: one table, and bench/results.json; every row is a ratio in one run."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib import import_module
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
import torch

GROUPS = (
    "tensors",
    "sweeps",
    "moves",
    "first",
    "users",
    "large",
    "known",
    "forms",
    "coders",
)  # modules of this package with a `measure`


def main(chosen: list[str]) -> None:
    """Run the chosen groups, all without a choice."""
    unknown = sorted(set(chosen) - set(GROUPS))
    if unknown:
        sys.exit(f"bench has no group {', '.join(unknown)}: allowed are {', '.join(GROUPS)}")
    torch.set_num_threads(1)
    machine = {
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "load before": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    groups = [group for group in GROUPS if group in chosen or not chosen]
    rows = [row for group in groups for row in import_module(f"bench.{group}").measure()]
    Path(__file__).with_name("results.json").write_text(
        json.dumps({"machine": machine, "groups": groups, "rows": rows}, indent=1) + "\n"
    )
    print(machine)
    print(pd.DataFrame(rows).to_string(index=False, na_rep=""))


if __name__ == "__main__":
    main(sys.argv[1:])
