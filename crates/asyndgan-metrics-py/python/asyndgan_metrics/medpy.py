"""The functions of ``medpy.metric.binary`` (medpy 0.5.2) with the same names, arguments, values and errors.

    >>> import numpy as np
    >>> from asyndgan_metrics.medpy import hd95
    >>> hd95(np.array([[1, 0, 0]]), np.array([[0, 0, 1]]), voxelspacing=(1.0, 0.5))
    1.0

``result`` comes first, as in medpy. A ``connectivity`` other than 1 is not implemented; neither are the functions of
objects (``obj_*``) and of correlations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import SurfaceDistances

__all__ = [
    "asd",
    "assd",
    "dc",
    "hd",
    "hd95",
    "jc",
    "positive_predictive_value",
    "precision",
    "ravd",
    "recall",
    "sensitivity",
    "specificity",
    "true_negative_rate",
    "true_positive_rate",
]


def _masks(result: ArrayLike, reference: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    first, second = (np.atleast_1d(np.asarray(mask).astype(np.bool_)) for mask in (result, reference))
    return first, second


def _count(mask: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(mask))


def _ratio(part: float, whole: int, otherwise: float) -> float:
    return part / whole if whole else otherwise


def dc(result: ArrayLike, reference: ArrayLike) -> float:
    """Dice coefficient; 1 if both masks are empty."""
    first, second = _masks(result, reference)
    return _ratio(2.0 * _count(first & second), _count(first) + _count(second), 1.0)


def jc(result: ArrayLike, reference: ArrayLike) -> float:
    """Jaccard coefficient; 1 if both masks are empty."""
    first, second = _masks(result, reference)
    return _ratio(float(_count(first & second)), _count(first | second), 1.0)


def precision(result: ArrayLike, reference: ArrayLike) -> float:
    """Precision; 0 if the result is empty."""
    first, second = _masks(result, reference)
    return _ratio(float(_count(first & second)), _count(first), 0.0)


def recall(result: ArrayLike, reference: ArrayLike) -> float:
    """Recall; 0 if the reference is empty."""
    first, second = _masks(result, reference)
    return _ratio(float(_count(first & second)), _count(second), 0.0)


def sensitivity(result: ArrayLike, reference: ArrayLike) -> float:
    """Sensitivity: :func:`recall`."""
    return recall(result, reference)


def specificity(result: ArrayLike, reference: ArrayLike) -> float:
    """Specificity; 0 if the reference has no background."""
    first, second = _masks(result, reference)
    return _ratio(float(_count(~first & ~second)), _count(~second), 0.0)


def true_negative_rate(result: ArrayLike, reference: ArrayLike) -> float:
    """True negative rate: :func:`specificity`."""
    return specificity(result, reference)


def true_positive_rate(result: ArrayLike, reference: ArrayLike) -> float:
    """True positive rate: :func:`recall`."""
    return recall(result, reference)


def positive_predictive_value(result: ArrayLike, reference: ArrayLike) -> float:
    """Positive predictive value: :func:`precision`."""
    return precision(result, reference)


def ravd(result: ArrayLike, reference: ArrayLike) -> float:
    """Relative absolute volume difference; negative if the result is smaller.

    Raises:
        RuntimeError: if the reference is empty.
    """
    first, second = _masks(result, reference)
    if not second.any():
        raise RuntimeError("The second supplied array does not contain any binary object.")
    return (_count(first) - _count(second)) / _count(second)


def _distances(
    result: ArrayLike, reference: ArrayLike, voxelspacing: float | Sequence[float] | None, connectivity: int
) -> SurfaceDistances:
    if connectivity != 1:
        raise NotImplementedError(f"a connectivity of {connectivity} is not implemented: use medpy itself, or 1")
    first, second = _masks(result, reference)
    for name, mask in (("first", first), ("second", second)):
        if not mask.any():
            raise RuntimeError(f"The {name} supplied array does not contain any binary object.")
    return SurfaceDistances(second, first, voxelspacing)


def hd(
    result: ArrayLike, reference: ArrayLike, voxelspacing: float | Sequence[float] | None = None, connectivity: int = 1
) -> float:
    """Hausdorff distance.

    Raises:
        RuntimeError: if a mask is empty.
    """
    return _distances(result, reference, voxelspacing, connectivity).hausdorff()


def hd95(
    result: ArrayLike, reference: ArrayLike, voxelspacing: float | Sequence[float] | None = None, connectivity: int = 1
) -> float:
    """95th percentile of the distances of both directions together.

    Raises:
        RuntimeError: if a mask is empty.
    """
    return _distances(result, reference, voxelspacing, connectivity).percentile(95.0, pooled=True)


def asd(
    result: ArrayLike, reference: ArrayLike, voxelspacing: float | Sequence[float] | None = None, connectivity: int = 1
) -> float:
    """Average distance from the surface of the result to that of the reference; not symmetric.

    Raises:
        RuntimeError: if a mask is empty.
    """
    return float(_distances(result, reference, voxelspacing, connectivity).prediction_to_truth_mm.mean())


def assd(
    result: ArrayLike, reference: ArrayLike, voxelspacing: float | Sequence[float] | None = None, connectivity: int = 1
) -> float:
    """Average symmetric surface distance: the mean of all distances of both directions.

    Raises:
        RuntimeError: if a mask is empty.
    """
    return _distances(result, reference, voxelspacing, connectivity).assd()
