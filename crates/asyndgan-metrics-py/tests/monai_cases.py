"""Inputs of which monai_golden.json has MONAI's values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SURFACE: list[dict[str, Any]] = [
    {"include_background": True},
    {},
    {"spacing": 0.5},
    {"include_background": True, "spacing": [2.0, 0.5]},
    {"spacing": [[1.0, 2.0], [0.5, 0.25], [3.0, 1.0]]},
]
CASES: list[dict[str, Any]] = [
    *({"metric": "hausdorff", "arguments": {**a, "percentile": p}} for a in _SURFACE for p in (None, 95, 50)),
    *({"metric": "hausdorff", "arguments": {**a, "directed": True, "percentile": p}} for a in _SURFACE for p in (None, 90)),
    *({"metric": "average", "arguments": {**a, "symmetric": s}} for a in _SURFACE for s in (False, True)),
    *({"metric": "dice", "arguments": a} for a in ({}, {"include_background": False}, {"ignore_empty": False})),
]


def masks(case: dict[str, Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Prediction and truth: three images of four classes. Some classes are empty in the prediction, the truth or both."""
    rng = np.random.default_rng(CASES.index(case))
    y_pred, y = (np.zeros((3, 4, 20, 17), bool) for _ in range(2))
    for image, channel in np.ndindex(3, 4):
        for target in (y_pred, y):
            row, column = rng.integers(0, 14, 2)
            height, width = rng.integers(1, 9, 2)
            target[image, channel, row : row + height, column : column + width] = True
    y[0, 1] = y_pred[0, 2] = y[1, 3] = y_pred[1, 3] = False
    return y_pred, y
