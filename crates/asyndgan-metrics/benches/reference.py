"""What a user would run in Python instead: `python reference.py KIND WHO WHAT COUNT` does it COUNT times and prints the seconds of all.

surface: HD95 of the same two masks by MONAI (CPU) or medpy, on one thread. instances: Dice, AJI, AJI+, PQ and F1 of the same two label maps,
one mask an instance and one intersection a touching pair, as stats_utils of HoVer-Net computes them; written anew from their definitions.
"""

import sys
import time

import numpy as np


def blob(centre, radii):
    z, y, x = np.ogrid[:155, :240, :240]
    a, b, c = [(g - m) / r for g, m, r in zip((z, y, x), centre, radii)]
    return a * a + b * b + c * c < 1 + 0.15 * np.sin(9 * a) * np.cos(11 * b) * np.sin(7 * c)


def surface(who, what):
    radii = {"tumour": [22.0, 30.0, 26.0], "brain": [62.0, 85.0, 70.0]}[what]
    truth, prediction = blob([80, 120, 118], radii), blob([82, 117, 120], [r * 0.96 for r in radii])
    if who == "medpy":
        from medpy.metric.binary import hd95

        return lambda: hd95(prediction, truth, [1.0] * 3)
    import torch
    from monai.metrics import compute_hausdorff_distance

    torch.set_num_threads(1)
    tensor = lambda m: torch.from_numpy(m[None, None].astype("f4"))
    y, y_pred = tensor(truth), tensor(prediction)
    return lambda: compute_hausdorff_distance(y_pred, y, include_background=True, percentile=95, spacing=[1.0] * 3)


def nuclei(shift, grown):
    labels = np.zeros((1000, 1000), int)
    for k in range(1800):
        row, column = 12 + 22 * (k // 40) + k * 7 % 5 + shift, 12 + 24 * (k % 40) + k * 11 % 7 + shift * (k % 3)
        r, c = np.ogrid[max(row - 10, 0) : min(row + 11, 1000), max(column - 10, 0) : min(column + 11, 1000)]
        part = labels[max(row - 10, 0) : min(row + 11, 1000), max(column - 10, 0) : min(column + 11, 1000)]
        part[(r - row) ** 2 + (c - column) ** 2 <= 30 + k * 13 % 50 + grown] = k + 1
    return labels


def pairwise(truth, prediction):
    """Intersection and union of every touching pair, each from two whole masks."""
    t_ids, p_ids = [list(np.unique(m))[1:] for m in (truth, prediction)]
    p_masks = {p: prediction == p for p in p_ids}
    inter, union = np.zeros((len(t_ids), len(p_ids))), np.zeros((len(t_ids), len(p_ids)))
    for i, t in enumerate(t_ids):
        t_mask = truth == t
        for p in np.unique(prediction[t_mask]):
            if p > 0:
                both = (t_mask & p_masks[p]).sum()
                inter[i, p_ids.index(p)], union[i, p_ids.index(p)] = both, t_mask.sum() + p_masks[p].sum() - both
    return t_ids, p_ids, inter, union


def aggregate(truth, prediction, once):
    from scipy.optimize import linear_sum_assignment

    t_ids, p_ids, inter, union = pairwise(truth, prediction)
    iou = inter / (union + 1e-6)
    rows, columns = linear_sum_assignment(-iou) if once else (np.arange(len(t_ids)), iou.argmax(1))
    kept = iou[rows, columns] > 0
    rows, columns = rows[kept], columns[kept]
    total = union[rows, columns].sum()
    total += sum((truth == t_ids[i]).sum() for i in set(range(len(t_ids))) - set(rows))
    total += sum((prediction == p_ids[j]).sum() for j in set(range(len(p_ids))) - set(columns))
    return inter[rows, columns].sum() / total


def instances(who, what):
    truth, prediction = nuclei(0, 0), nuclei(2, 9)

    def all_of_them():
        dice = 2 * ((truth > 0) & (prediction > 0)).sum() / ((truth > 0).sum() + (prediction > 0).sum())
        t_ids, p_ids, inter, union = pairwise(truth, prediction)
        iou = inter / (union + 1e-6)
        matched = iou[iou > 0.5]
        f1 = 2 * len(matched) / (len(t_ids) + len(p_ids))
        return dice, aggregate(truth, prediction, False), aggregate(truth, prediction, True), f1, f1 * matched.mean()

    return all_of_them


if __name__ == "__main__":
    run = globals()[sys.argv[1]](*sys.argv[2:4])
    start = time.perf_counter()
    for _ in range(int(sys.argv[4])):
        run()
    print(time.perf_counter() - start)
