"""Random masks with several objects, for medpy_golden.py and test_medpy.py."""

import numpy as np

SHAPES = ((40,), (12, 13), (6, 7, 8))
CASES = range(45)
CONNECTIVITIES = (1, 2, 3)


def sequences(seed):
    """Successive masks of two observers; of each pair, the second is the first with errors."""
    rng = np.random.default_rng(1000 + seed)
    shape = (2 + seed, *SHAPES[seed % len(SHAPES)])
    shares = rng.uniform(0.1, 0.6, 2 + seed).reshape(-1, *[1] * (len(shape) - 1))
    first = rng.random(shape) < shares
    return first, first ^ (rng.random(shape) < 0.1)


def case(seed):
    """Two masks and a spacing."""
    rng = np.random.default_rng(seed)
    shape = SHAPES[seed % len(SHAPES)]
    first, second = (rng.random(shape) < rng.uniform(0.1, 0.6) for _ in range(2))
    return first, second, tuple(rng.uniform(0.5, 2, len(shape)).tolist())
