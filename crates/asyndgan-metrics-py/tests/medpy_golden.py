"""Writes medpy_golden.json: the values of medpy 0.5.2 for random masks. Needs medpy==0.5.2 and scipy.

    python medpy_golden.py > medpy_golden.json
"""

import json
import sys
import warnings
from importlib.metadata import version

from medpy.metric import binary

from medpy_cases import CASES, CONNECTIVITIES, case, sequences


def main() -> None:
    assert version("medpy") == "0.5.2"
    warnings.simplefilter("ignore")
    objects, correlations = [], []
    for seed in CASES:
        first, second, spacing = case(seed)
        shares = [[binary.obj_tpr(first, second, c), binary.obj_fpr(first, second, c)] for c in CONNECTIVITIES]
        distances = [binary.obj_asd(first, second, spacing), binary.obj_assd(first, second, spacing)]
        objects.append({"shares": shares, "distances": [float(distance) for distance in distances]})
        both = sequences(seed)
        of_changes = binary.volume_change_correlation(*both) if seed else None
        found = [of and [float(of.statistic), float(of.pvalue)] for of in (binary.volume_correlation(*both), of_changes)]
        correlations.append(found)
    json.dump({"objects": objects, "correlations": correlations}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
