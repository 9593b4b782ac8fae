"""Times HD95 of two masks of 240 x 240 x 155, beside other packages if they are installed.

    pip install asyndgan-metrics medpy monai surface-distance
    python benchmark.py

Prints the median of the repetitions, by turns in one run, and the value of each package.
"""

import time
from statistics import median

import numpy as np

SHAPE, SPACING, REPETITIONS = (240, 240, 155), (1.0, 1.0, 1.0), 5


def ball(centre, radius):
    axes = np.ogrid[tuple(slice(n) for n in SHAPE)]
    return sum((axis - at) ** 2 for axis, at in zip(axes, centre)) <= radius**2


def packages():
    """The packages that are installed: their name, and a function of truth and prediction."""
    from asyndgan_metrics import hd95
    from asyndgan_metrics.medpy import hd95 as pooled

    yield "asyndgan-metrics", lambda truth, prediction: hd95(truth, prediction, SPACING)
    yield "asyndgan-metrics, medpy", lambda truth, prediction: pooled(prediction, truth, SPACING)
    try:
        from medpy.metric.binary import hd95 as medpy
    except ImportError:
        pass
    else:
        yield "medpy", lambda truth, prediction: medpy(prediction, truth, SPACING)
    try:
        import torch
        from monai.metrics import compute_hausdorff_distance
    except ImportError:
        pass
    else:
        one_hot = lambda mask: torch.from_numpy(mask)[None, None]
        yield "MONAI", lambda truth, prediction: compute_hausdorff_distance(
            one_hot(prediction), one_hot(truth), include_background=True, percentile=95
        ).item()
    try:
        import surface_distance
    except ImportError:
        pass
    else:
        yield "surface-distance", lambda truth, prediction: surface_distance.compute_robust_hausdorff(
            surface_distance.compute_surface_distances(truth, prediction, SPACING), 95
        )


def main():
    pairs = {
        "tumour": (ball((120, 120, 77), 19), ball((121, 118, 78), 18)),
        "brain": (ball((120, 120, 77), 71), ball((121, 119, 77), 70)),
    }
    for name, (truth, prediction) in pairs.items():
        print(f"{name}: {truth.sum():,} and {prediction.sum():,} elements")
        times, values = {}, {}
        measured = list(packages())
        for _ in range(REPETITIONS):
            for package, compute in measured:
                start = time.perf_counter()
                values[package] = compute(truth, prediction)
                times.setdefault(package, []).append(time.perf_counter() - start)
        for package, seconds in times.items():
            print(f"  {package:26} {1000 * median(seconds):8.1f} ms   HD95 {values[package]:.3f}")


if __name__ == "__main__":
    main()
