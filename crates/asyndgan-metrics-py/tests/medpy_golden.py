"""Writes medpy_golden.json: the values of medpy 0.5.2 for the objects of random masks. Needs medpy==0.5.2 and scipy.

    python medpy_golden.py > medpy_golden.json
"""

import json
import sys
import warnings
from importlib.metadata import version

from medpy.metric import binary

from medpy_cases import CASES, CONNECTIVITIES, case


def main() -> None:
    assert version("medpy") == "0.5.2"
    warnings.simplefilter("ignore")
    values = []
    for seed in CASES:
        first, second, spacing = case(seed)
        shares = [[binary.obj_tpr(first, second, c), binary.obj_fpr(first, second, c)] for c in CONNECTIVITIES]
        distances = [binary.obj_asd(first, second, spacing), binary.obj_assd(first, second, spacing)]
        values.append({"shares": shares, "distances": [float(distance) for distance in distances]})
    json.dump(values, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
