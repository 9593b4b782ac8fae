"""The functions of ``medpy.metric.binary`` (medpy 0.5.2) with the same names, arguments, values and errors.

    >>> import numpy as np
    >>> from asyndgan_metrics.medpy import hd95
    >>> hd95(np.array([[1, 0, 0]]), np.array([[0, 0, 1]]), voxelspacing=(1.0, 0.5))
    1.0

``result`` comes first, as in medpy. What differs:

- Distances with a ``connectivity`` other than 1, and distances and objects of masks with more than three axes, raise
  NotImplementedError.
- Correlations are tuples of floats, and NaN without a warning if all volumes, or all changes, are equal.
- Values are Python floats. If both masks are empty, dc and jc are 1, and if a denominator is 0, recall, precision and
  specificity are 0, as medpy intends. Where NumPy does not raise ZeroDivisionError, medpy's dc, recall, precision and
  specificity are NaN there.
- Masks of different shapes raise ValueError where distances are measured, and spacings that are not positive do, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import Connectivity, SurfaceDistances, connected_components
from ._inputs import Spacing, array_of, spacing_of
from ._native import pearson

__all__ = [
    "asd",
    "assd",
    "dc",
    "hd",
    "hd95",
    "jc",
    "obj_asd",
    "obj_assd",
    "obj_fpr",
    "obj_tpr",
    "positive_predictive_value",
    "precision",
    "ravd",
    "recall",
    "sensitivity",
    "specificity",
    "true_negative_rate",
    "true_positive_rate",
    "volume_change_correlation",
    "volume_correlation",
]


def _masks(result: ArrayLike, reference: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    named = ((result, "result"), (reference, "reference"))
    first, second = (np.atleast_1d(array_of(mask, name).astype(np.bool_)) for mask, name in named)
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
    true, false = _count(first & second), _count(first & ~second)
    return _ratio(float(true), true + false, 0.0)


def recall(result: ArrayLike, reference: ArrayLike) -> float:
    """Recall; 0 if the reference is empty."""
    first, second = _masks(result, reference)
    true, missed = _count(first & second), _count(~first & second)
    return _ratio(float(true), true + missed, 0.0)


def sensitivity(result: ArrayLike, reference: ArrayLike) -> float:
    """Sensitivity: :func:`recall`."""
    return recall(result, reference)


def specificity(result: ArrayLike, reference: ArrayLike) -> float:
    """Specificity; 0 if the reference has no background."""
    first, second = _masks(result, reference)
    true, false = _count(~first & ~second), _count(first & ~second)
    return _ratio(float(true), true + false, 0.0)


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
    result: ArrayLike, reference: ArrayLike, voxelspacing: Spacing | None, connectivity: int
) -> SurfaceDistances:
    if connectivity != 1:
        raise NotImplementedError(f"a connectivity of {connectivity} is not implemented: use medpy itself, or 1")
    first, second = _masks(result, reference)
    if first.ndim > 3:
        raise NotImplementedError(f"distances of masks with {first.ndim} axes are not implemented: at most three")
    spacing = spacing_of(voxelspacing, first.ndim)
    if len(spacing) != first.ndim:
        raise RuntimeError("sequence argument must have length equal to input rank")
    for name, mask in (("first", first), ("second", second)):
        if not mask.any():
            raise RuntimeError(f"The {name} supplied array does not contain any binary object.")
    if first.shape != second.shape:
        raise ValueError(f"result and reference differ in shape: {first.shape} and {second.shape}")
    return SurfaceDistances(second, first, spacing)


def hd(
    result: ArrayLike, reference: ArrayLike, voxelspacing: Spacing | None = None, connectivity: int = 1
) -> float:
    """Hausdorff distance.

    Raises:
        RuntimeError: if a mask is empty.
    """
    return _distances(result, reference, voxelspacing, connectivity).hausdorff()


def hd95(
    result: ArrayLike, reference: ArrayLike, voxelspacing: Spacing | None = None, connectivity: int = 1
) -> float:
    """95th percentile of the distances of both directions together.

    Raises:
        RuntimeError: if a mask is empty.
    """
    return _distances(result, reference, voxelspacing, connectivity).percentile(95.0, pooled=True)


def asd(
    result: ArrayLike, reference: ArrayLike, voxelspacing: Spacing | None = None, connectivity: int = 1
) -> float:
    """Average distance from the surface of the result to that of the reference; not symmetric.

    Raises:
        RuntimeError: if a mask is empty.
    """
    return float(_distances(result, reference, voxelspacing, connectivity).prediction_to_truth_mm.mean())


def assd(
    result: ArrayLike, reference: ArrayLike, voxelspacing: Spacing | None = None, connectivity: int = 1
) -> float:
    """Average symmetric surface distance: the mean of all distances of both directions.

    Raises:
        RuntimeError: if a mask is empty.
    """
    return _distances(result, reference, voxelspacing, connectivity).assd()


class _Objects:
    """The connected components of two masks, and which of them correspond.

    An object corresponds to at most one object of the other mask, which it touches. Objects of ``first`` that touch a
    single one choose before the others; of these, the one with the fewest free candidates chooses next.
    """

    def __init__(self, first: ArrayLike, second: ArrayLike, connectivity: int) -> None:
        masks = _masks(first, second)
        axes = masks[0].ndim
        if axes > 3:
            raise NotImplementedError(f"objects of masks with {axes} axes are not implemented: at most three")
        names: tuple[Connectivity, ...] = ("faces", "edges", "corners")
        name = names[min(max(connectivity, 1), 3) - 1]
        self.first, self.second = (connected_components(mask, connectivity=name) for mask in masks)
        self.counts = int(self.first.max(initial=0)), int(self.second.max(initial=0))
        both = (self.first > 0) & (self.second > 0)
        touching: dict[int, set[int]] = {}
        for label, candidate in np.unique(np.stack((self.first[both], self.second[both])), axis=1).T.tolist():
            touching.setdefault(label, set()).add(candidate)
        self.pairs: list[tuple[int, int]] = []
        used: set[int] = set()
        waiting = []
        for label, candidates in touching.items():
            if len(candidates) > 1:
                waiting.append((label, candidates))
            elif not candidates <= used:
                self._pair(label, candidates, used)
        while waiting:
            free = [(label, candidates - used) for label, candidates in waiting]
            waiting = sorted((pair for pair in free if pair[1]), key=lambda pair: len(pair[1]))
            if waiting:
                self._pair(*waiting.pop(0), used)

    def _pair(self, label: int, candidates: set[int], used: set[int]) -> None:
        chosen = candidates.pop()
        used.add(chosen)
        self.pairs.append((label, chosen))

    def distances(self, voxelspacing: Spacing | None, connectivity: int) -> NDArray[np.float64]:
        """The distances from the surface of each object of ``second`` to that of its object of ``first``."""
        found = [np.empty(0)]
        for label, other in self.pairs:
            one, two = self.first == label, self.second == other
            places = np.argwhere(one | two)
            window = tuple(slice(low, high + 1) for low, high in zip(places.min(0), places.max(0)))
            pair = _distances(two[window], one[window], voxelspacing, connectivity)
            found.append(np.asarray(pair.prediction_to_truth_mm))
        return np.concatenate(found)


def obj_tpr(result: ArrayLike, reference: ArrayLike, connectivity: int = 1) -> float:
    """Share of the objects of the result that correspond to an object of the reference.

    This is what medpy computes; its documentation describes the share of the objects of the reference.

    Raises:
        ZeroDivisionError: if the result is empty.
    """
    objects = _Objects(reference, result, connectivity)
    return len(objects.pairs) / objects.counts[1]


def obj_fpr(result: ArrayLike, reference: ArrayLike, connectivity: int = 1) -> float:
    """Share of the objects of the reference that correspond to no object of the result.

    This is what medpy computes; its documentation describes the share of the objects of the result.

    Raises:
        ZeroDivisionError: if the reference is empty.
    """
    objects = _Objects(reference, result, connectivity)
    return (objects.counts[0] - len(objects.pairs)) / objects.counts[0]


def obj_asd(
    result: ArrayLike, reference: ArrayLike, voxelspacing: Spacing | None = None, connectivity: int = 1
) -> float:
    """Average distance between the surfaces of corresponding objects, from the reference to the result.

    NaN if no objects correspond.
    """
    distances = _Objects(result, reference, connectivity).distances(voxelspacing, connectivity)
    return float(distances.mean()) if distances.size else float("nan")


def obj_assd(
    result: ArrayLike, reference: ArrayLike, voxelspacing: Spacing | None = None, connectivity: int = 1
) -> float:
    """Average symmetric distance between the surfaces of corresponding objects: both directions together.

    NaN if no objects correspond.
    """
    pairs = ((result, reference), (reference, result))
    distances = np.concatenate([_Objects(*pair, connectivity).distances(voxelspacing, connectivity) for pair in pairs])
    return float(distances.mean()) if distances.size else float("nan")


def _volumes(masks: Sequence[ArrayLike], name: str) -> list[int]:
    return [_count(array_of(mask, f"{name}[{number}]").astype(np.bool_)) for number, mask in enumerate(masks)]


def _correlation(first: list[int], second: list[int]) -> tuple[float, float]:
    if len(first) != len(second):
        raise ValueError(f"results and references differ in length: {len(first)} and {len(second)} volumes")
    if len(first) < 2:
        raise ValueError("a correlation needs at least two pairs of volumes, or of changes")
    found = pearson([float(volume) for volume in first], [float(volume) for volume in second])
    return found if found is not None else (float("nan"), float("nan"))


def volume_correlation(results: Sequence[ArrayLike], references: Sequence[ArrayLike]) -> tuple[float, float]:
    """Pearson's correlation of the volumes of successive masks, and its two-sided p-value.

    Raises:
        ValueError: for fewer than two pairs of masks.
    """
    return _correlation(_volumes(results, "results"), _volumes(references, "references"))


def volume_change_correlation(results: Sequence[ArrayLike], references: Sequence[ArrayLike]) -> tuple[float, float]:
    """Pearson's correlation of the changes of volume between successive masks, and its two-sided p-value.

    Raises:
        ValueError: for fewer than three pairs of masks.
    """
    first, second = _volumes(results, "results"), _volumes(references, "references")
    changes = [[after - before for before, after in zip(volumes, volumes[1:])] for volumes in (first, second)]
    return _correlation(*changes)
