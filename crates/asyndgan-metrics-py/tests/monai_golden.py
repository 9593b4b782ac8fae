"""Writes monai_golden.json: the values of MONAI 1.6.1 for random masks. Needs monai==1.6.1, torch and scipy.

    python monai_golden.py > monai_golden.json
"""

import json
import sys
import warnings

import monai
import numpy as np
import torch
from monai import metrics

from monai_cases import CASES, masks

SURFACE = {"hausdorff": metrics.compute_hausdorff_distance, "average": metrics.compute_average_surface_distance}


def main() -> None:
    assert monai.__version__ == "1.6.1", monai.__version__
    warnings.simplefilter("ignore")
    values = []
    for case in CASES:
        y_pred, y = (torch.from_numpy(mask.astype(np.float32)) for mask in masks(case))
        compute = SURFACE.get(case["metric"], metrics.compute_dice)
        found = compute(y_pred, y, **case["arguments"])
        reductions = {}
        for reduction in ("mean", "sum", "mean_batch", "sum_batch", "mean_channel", "sum_channel"):
            value, count = metrics.utils.do_metric_reduction(found.clone(), reduction)
            reductions[reduction] = [value.tolist(), count.tolist()]
        values.append({"values": found.tolist(), "reductions": reductions})
    json.dump(values, sys.stdout)


main()
