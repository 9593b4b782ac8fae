"""What medpy, MONAI, SciPy, scikit-image and plain restatements of published definitions say of cases that tests/golden.rs makes too.

    python references.py data/golden/metrics.json

The golden numbers were made with medpy 0.5.2, MONAI 1.6.1, SciPy 1.17.1, scikit-image 0.26.0, DeepMind's surface-distance 0.1 and
NumPy as of November 2026. Cases come from
whole numbers alone (splitmix64), so that both sides make the very same arrays and none has to be stored.
"""

import json
import math
import sys
import warnings

import numpy as np

MASKS, INSTANCES, IMAGES, SAMPLES = 400, 320, 300, 300
SPACINGS = [0.5, 0.75, 1.0, 1.25, 2.5, 3.0]


class Numbers:
    def __init__(self, seed):
        self.state = seed & (1 << 64) - 1

    def below(self, n):
        self.state = self.state + 0x9E3779B97F4A7C15 & (1 << 64) - 1
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1
        z = (z ^ z >> 27) * 0x94D049BB133111EB & (1 << 64) - 1
        return (z ^ z >> 31) % n


def ball(shape, centre, square):
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum((a - c) ** 2 for a, c in zip(axes, centre)) <= square


def mask(numbers, shape):
    kind = numbers.below(12)
    if kind < 2:
        return np.full(shape, kind == 1)
    out = np.zeros(shape, bool)
    if kind == 2:
        out[tuple(numbers.below(n) for n in shape)] = True
        return out
    for _ in range(1 + numbers.below(3)):
        out |= ball(shape, [numbers.below(n) for n in shape], 1 + numbers.below(60))
    for _ in range(numbers.below(20)):
        at = tuple(numbers.below(n) for n in shape)
        out[at] = ~out[at]
    return out


def mask_case(i):
    numbers = Numbers(1000 + i)
    ndim = 2 + i % 2
    shape = [1 + numbers.below(40 if ndim == 2 else 16) for _ in range(ndim)]
    spacing = [SPACINGS[numbers.below(6)] for _ in range(ndim)]
    return mask(numbers, shape), mask(numbers, shape), spacing


def instance_case(i):
    numbers = Numbers(5000 + i)
    many = i % 80 == 79
    shape = [300, 300] if many else [4 + numbers.below(60), 4 + numbers.below(60)]
    count = 500 * (1 + i // 80) if many else numbers.below(40)
    truth, prediction = np.zeros(shape, "u4"), np.zeros(shape, "u4")
    for k in range(count):
        centre, square = [numbers.below(n) for n in shape], 1 + numbers.below(30)
        truth[ball(shape, centre, square)] = 1 + 3 * k
        moved = [c + numbers.below(3) - 1 for c in centre]
        larger = square + numbers.below(5)
        if numbers.below(8) > 0:
            prediction[ball(shape, moved, larger)] = 7 + 2 * k
    for k in range(numbers.below(5)):
        prediction[ball(shape, [numbers.below(n) for n in shape], 1 + numbers.below(30))] = 100_000 + k
    if numbers.below(25) == 0:
        truth[:] = 0
    return truth, prediction


def image_case(i):
    numbers = Numbers(9000 + i)
    shape = (11 + numbers.below(20), 11 + numbers.below(20))
    a = np.array([numbers.below(256) for _ in range(shape[0] * shape[1])], float).reshape(shape)
    b = np.clip(a + np.array([numbers.below(101) - 50 for _ in range(a.size)], float).reshape(shape), 0, 255)
    return a, b


def sample_case(i):
    numbers = Numbers(20_000 + i)
    n, m, features = 2 + numbers.below(60), 2 + numbers.below(60), 1 + numbers.below(8)
    draw = lambda rows: np.array([numbers.below(2001) / 500 - 2 for _ in range(rows * features)]).reshape(rows, features)
    return draw(n), draw(m) * 1.5 + 0.25


def or_none(value):
    value = float(value)
    return value if math.isfinite(value) else None


def of_medpy(truth, prediction, spacing):
    from medpy.metric import binary

    def attempt(metric, *more):
        try:
            return or_none(metric(prediction, truth, *more))
        except (RuntimeError, ZeroDivisionError):
            return None

    names = {"dice": binary.dc, "jaccard": binary.jc, "sensitivity": binary.recall, "specificity": binary.specificity, "precision": binary.precision}
    found = {name: attempt(metric) for name, metric in names.items()}
    for name, metric in {"hausdorff": binary.hd, "hd95": binary.hd95, "assd": binary.assd}.items():
        found[name] = attempt(metric, spacing)
    return found


def of_monai(truth, prediction, spacing):
    import torch
    from monai import metrics

    tensor = lambda m: torch.from_numpy(m[None, None].astype("f4"))
    y_pred, y = tensor(prediction), tensor(truth)
    return {
        "dice": or_none(metrics.compute_dice(y_pred, y, ignore_empty=True)),
        "hausdorff": or_none(metrics.compute_hausdorff_distance(y_pred, y, include_background=True, spacing=spacing)),
        "hd95": or_none(metrics.compute_hausdorff_distance(y_pred, y, include_background=True, percentile=95, spacing=spacing)),
        "assd": or_none(metrics.compute_average_surface_distance(y_pred, y, include_background=True, symmetric=True, spacing=spacing)),
        "nsd": or_none(metrics.compute_surface_dice(y_pred, y, [1.5], include_background=True, spacing=spacing)),
    }


def of_deepmind(truth, prediction, spacing):
    import surface_distance

    if not truth.any() or not prediction.any():
        return None
    found = surface_distance.compute_surface_distances(truth, prediction, spacing)
    return {
        "hausdorff": or_none(surface_distance.compute_robust_hausdorff(found, 100)),
        "hd95": or_none(surface_distance.compute_robust_hausdorff(found, 95)),
        "nsd": or_none(surface_distance.compute_surface_dice_at_tolerance(found, 1.5)),
    }


def of_scipy(truth):
    from scipy import ndimage

    structure = lambda rank: ndimage.generate_binary_structure(truth.ndim, min(rank, truth.ndim))
    return [int(ndimage.label(truth, structure(rank))[1]) for rank in (1, 2, 3)]


def of_definitions(truth, prediction):
    """AJI (Kumar et al. 2017), AJI+ and PQ (Kirillov et al. 2019), F1, object Dice (Sirinukunwattana et al. 2017)."""
    from scipy.optimize import linear_sum_assignment

    ts, ps = [[int(l) for l in np.unique(m) if l > 0] for m in (truth, prediction)]
    t_masks, p_masks = {t: truth == t for t in ts}, {p: prediction == p for p in ps}
    shared, iou = np.zeros((len(ts), len(ps))), np.zeros((len(ts), len(ps)))
    for i, t in enumerate(ts):
        for p in np.unique(prediction[t_masks[t]]):
            if p > 0:
                j = ps.index(int(p))
                shared[i, j] = (t_masks[t] & p_masks[int(p)]).sum()
                iou[i, j] = shared[i, j] / (t_masks[t] | p_masks[int(p)]).sum()
    t_size, p_size = [m.sum() for m in t_masks.values()], [m.sum() for m in p_masks.values()]

    def aggregate(pairs):
        inter = sum(shared[i, j] for i, j in pairs)
        union = sum(t_size[i] + p_size[j] - shared[i, j] for i, j in pairs)
        union += sum(s for i, s in enumerate(t_size) if i not in {a for a, _ in pairs})
        union += sum(s for j, s in enumerate(p_size) if j not in {b for _, b in pairs})
        return or_none(inter / union) if union else None

    best = [(i, int(iou[i].argmax())) for i in range(len(ts)) if len(ps) and iou[i].max() > 0]
    assigned = [(i, j) for i, j in zip(*linear_sum_assignment(-iou)) if iou[i, j] > 0] if iou.size else []
    matching = {}
    for limit in (0.3, 0.5, 0.75):
        kept = np.where(iou > limit, iou, 0)
        pairs = [(i, j) for i, j in zip(*linear_sum_assignment(-kept)) if kept[i, j] > 0] if iou.size else []
        half = len(pairs) + (len(ts) - len(pairs)) / 2 + (len(ps) - len(pairs)) / 2
        total = sum(iou[i, j] for i, j in pairs)
        matching[str(limit)] = [or_none(len(pairs) / half), or_none(total / half)] if half else [None, None]

    def side(sizes, rows, other):
        if not len(sizes):
            return 0.0
        dice = lambda i: 2 * rows[i].max() / (sizes[i] + other[rows[i].argmax()]) if rows[i].size and rows[i].max() > 0 else 0.0
        return sum(s / sum(sizes) * dice(i) for i, s in enumerate(sizes))

    objects = (side(t_size, shared, p_size) + side(p_size, shared.T, t_size)) / 2 if ts or ps else None
    return {"aji": aggregate(best), "aji_plus": aggregate(assigned), "matching": matching, "object_dice": objects}


def of_skimage(a, b):
    from skimage import metrics

    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return {
        "psnr": or_none(metrics.peak_signal_noise_ratio(a, b, data_range=255)),
        "uniform": or_none(metrics.structural_similarity(a, b, data_range=255)),
        "gaussian": or_none(metrics.structural_similarity(a, b, data_range=255, **gaussian)),
    }


def of_samples(a, b):
    from scipy import stats

    cov = lambda x: np.atleast_2d(np.cov(x, rowvar=False))
    # The root of the first, then of a symmetric matrix: no root of one that is not symmetric.
    values, vectors = np.linalg.eigh(cov(a))
    root = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    trace = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cov(b) @ root), 0, None)).sum()
    fid = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov(a)) + np.trace(cov(b)) - 2 * trace
    kernel = lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3
    within = lambda x: (kernel(x, x).sum() - np.trace(kernel(x, x))) / (len(x) * (len(x) - 1))
    n = min(len(a), len(b))
    return {
        "fid": float(fid),
        "kid": float(within(a) + within(b) - 2 * kernel(a, b).mean()),
        "wasserstein": float(stats.wasserstein_distance(a[:, 0], b[:, 0])),
        "wilcoxon": or_none(stats.wilcoxon(a[:n, 0], b[:n, 0]).pvalue),
        # Rounded, so that there are ties and zeros.
        "wilcoxon_ties": or_none(stats.wilcoxon(np.round(a[:n, 0]), np.round(b[:n, 0])).pvalue) if np.any(np.round(a[:n, 0]) != np.round(b[:n, 0])) else None,
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    masks = []
    for i in range(MASKS):
        truth, prediction, spacing = mask_case(i)
        masks.append({"medpy": of_medpy(truth, prediction, spacing), "monai": of_monai(truth, prediction, spacing), "components": of_scipy(truth)})
        masks[-1]["deepmind"] = of_deepmind(truth, prediction, spacing)
    golden = {
        "masks": masks,
        "instances": [of_definitions(*instance_case(i)) for i in range(INSTANCES)],
        "images": [of_skimage(*image_case(i)) for i in range(IMAGES)],
        "samples": [of_samples(*sample_case(i)) for i in range(SAMPLES)],
    }
    with open(sys.argv[1], "w") as out:
        json.dump(golden, out)
        out.write("\n")
