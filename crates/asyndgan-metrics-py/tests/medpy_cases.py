"""Random masks with several objects, for medpy_golden.py and test_medpy.py."""

import numpy as np

SHAPES = ((40,), (12, 13), (6, 7, 8))
CASES = range(45)
CONNECTIVITIES = (1, 2, 3)


def case(seed):
    """Two masks and a spacing."""
    rng = np.random.default_rng(seed)
    shape = SHAPES[seed % len(SHAPES)]
    first, second = (rng.random(shape) < rng.uniform(0.1, 0.6) for _ in range(2))
    return first, second, tuple(rng.uniform(0.5, 2, len(shape)).tolist())
