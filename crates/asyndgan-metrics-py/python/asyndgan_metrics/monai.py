"""Metrics of ``monai.metrics`` (MONAI 1.6.1) with the same names, arguments and values.

    >>> import numpy as np
    >>> from asyndgan_metrics.monai import HausdorffDistanceMetric
    >>> y, y_pred = np.zeros((1, 1, 8, 8)), np.zeros((1, 1, 8, 8))
    >>> y[..., 2:5, 2:5], y_pred[..., 2:5, 2:7] = 1, 1
    >>> metric = HausdorffDistanceMetric(include_background=True, percentile=95)
    >>> metric(y_pred, y, spacing=0.5)
    array([[1.]], dtype=float32)
    >>> metric.aggregate().item()
    1.0

Inputs are arrays of NumPy, or tensors of PyTorch on the CPU; PyTorch is not imported. Masks are one-hot and batch
first, ``[batch, class, ...]``, or lists of ``[class, ...]``. What differs:

- Results are arrays of NumPy.
- Masks with other values than 0 and 1 raise ValueError: MONAI counts any nonzero prediction as marked for Dice, and 1
  alone for distances.
- ``distance_metric`` other than ``"euclidean"``, ``ignore_index``, ``per_component`` and ``return_with_label`` raise
  NotImplementedError. Negative labels, a spacing that is not positive, and lists of unequal length raise ValueError.
- Metrics have ``aggregate`` and ``reset``, and no buffer to read.

Distances of empty masks are those of MONAI, which warns of them: NaN if both are empty. If one is, inf; but NaN with a
percentile, so a missed object does not count in a mean of HD95. ``asyndgan_metrics.score`` gives the reason instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import SurfaceDistances
from ._inputs import Spacing, array_of, boolean, choice_of, labels_of, spacing_of

__all__ = [
    "DiceMetric",
    "HausdorffDistanceMetric",
    "SurfaceDistanceMetric",
    "compute_average_surface_distance",
    "compute_dice",
    "compute_hausdorff_distance",
]

Values = NDArray[np.float32]
Spacings = Union[Spacing, "Sequence[Spacing]", None]

_REDUCTIONS = ("none", "mean", "sum", "mean_batch", "sum_batch", "mean_channel", "sum_channel")


def _refuse(**arguments: object) -> None:
    for name, value in arguments.items():
        if value:
            raise NotImplementedError(f"{name} is not supported")


def _binary(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    array = array_of(values, name)
    if array.ndim < 3:
        raise ValueError(f"{name} should have at least three dimensions, got {array.ndim}")
    if array.dtype == np.bool_:
        return boolean(array)
    marked: NDArray[np.bool_] = array == 1
    if not np.array_equal(marked, array != 0):
        raise ValueError(f"{name} must have the values 0 and 1 alone: threshold it, or make it one-hot")
    return marked


def _pair(y_pred: ArrayLike, y: ArrayLike, include_background: bool) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks without their first class, unless it is the only one, or counts."""

    def counted(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return mask if include_background or mask.shape[1] == 1 else mask[:, 1:]

    predicted, truth = counted(_binary(y_pred, "y_pred")), counted(_binary(y, "y"))
    if predicted.shape != truth.shape:
        raise ValueError(f"y_pred and y should have same shapes, got {predicted.shape} and {truth.shape}")
    return predicted, truth


def _spacings(spacing: Spacings, batch: int, axes: int) -> list[list[float]]:
    """The spacing of each image: one for all, or one per image."""
    found = _rows(spacing, batch, axes)
    for row in found:
        if len(row) != axes or not all(0 < value < np.inf for value in row):
            raise ValueError(f"spacing should have positive numbers, one per axis ({axes}), got {row}")
    return found


def _rows(spacing: Spacings, batch: int, axes: int) -> list[list[float]]:
    rows: Any = spacing
    if isinstance(rows, (list, tuple)) and len({np.ndim(row) for row in rows}) > 1:
        raise ValueError(f"spacing should have numbers alone or rows alone, got {rows}")
    if rows is None or np.ndim(rows) == 0:
        return [spacing_of(rows, axes)] * batch
    if all(np.ndim(row) == 0 for row in rows):
        if len(rows) != axes:
            raise ValueError(f"spacing should have one number per axis ({axes}), got {len(rows)}")
        return [spacing_of(rows, axes)] * batch
    if len(rows) != batch:
        raise ValueError(f"spacing should have one row per image ({batch}), got {len(rows)}")
    return [spacing_of(row[0] if np.ndim(row) and len(row) == 1 else row, axes) for row in rows]


def _distances(
    y_pred: ArrayLike, y: ArrayLike, include_background: bool, spacing: Spacings, one_empty: float, value: Any
) -> Values:
    """``value`` of the distances of every class of every image; ``one_empty`` for an empty mask, NaN for two."""
    predicted, truth = _pair(y_pred, y, include_background)
    if not 1 <= predicted.ndim - 2 <= 3:
        raise ValueError(f"y_pred and y should have one to three spatial axes, got {predicted.ndim - 2}")
    batch, classes = predicted.shape[:2]
    spacings = _spacings(spacing, batch, predicted.ndim - 2)
    found = np.empty((batch, classes), np.float32)
    for image, channel in np.ndindex(batch, classes):
        masks = truth[image, channel], predicted[image, channel]
        marked = [bool(mask.any()) for mask in masks]
        if all(marked):
            found[image, channel] = value(SurfaceDistances(*masks, spacings[image]))
        else:
            found[image, channel] = one_empty if any(marked) else np.nan
    return found


def compute_hausdorff_distance(
    y_pred: ArrayLike,
    y: ArrayLike,
    include_background: bool = False,
    distance_metric: str = "euclidean",
    percentile: float | None = None,
    directed: bool = False,
    spacing: Spacings = None,
    ignore_index: int | None = None,
) -> Values:
    """The Hausdorff distance of every class of every image, ``[batch, class]``.

    Args:
        y_pred, y: binary masks ``[batch, class, ...]``.
        include_background: whether the first class counts.
        percentile: the percentile of the distances in each direction; the maximum if None or 0.
        directed: whether distances from the prediction alone count.
        spacing: one number, one per axis, or one row per image.

    Raises:
        ValueError: if shapes differ, values are not binary, or the percentile or spacing is not valid.
        NotImplementedError: for arguments that the module's help names.
    """
    _refuse(ignore_index=ignore_index is not None, distance_metric=distance_metric != "euclidean")
    percent = percentile or 100.0
    if not 0 <= percent <= 100:
        raise ValueError(f"percentile should be a value between 0 and 100, got {percentile}")

    def value(distances: SurfaceDistances) -> float:
        if directed:
            return float(np.percentile(distances.prediction_to_truth_mm, percent))
        return distances.percentile(percent)

    return _distances(y_pred, y, include_background, spacing, np.nan if percentile else np.inf, value)


def compute_average_surface_distance(
    y_pred: ArrayLike,
    y: ArrayLike,
    include_background: bool = False,
    symmetric: bool = False,
    distance_metric: str = "euclidean",
    spacing: Spacings = None,
    ignore_index: int | None = None,
) -> Values:
    """The mean distance from the prediction's surface to the true one, ``[batch, class]``; with ``symmetric``, that of
    the distances of both directions together. Arguments and errors as in :func:`compute_hausdorff_distance`.
    """
    _refuse(ignore_index=ignore_index is not None, distance_metric=distance_metric != "euclidean")

    def value(distances: SurfaceDistances) -> float:
        there = distances.prediction_to_truth_mm
        return float(np.mean(np.concatenate([there, distances.truth_to_prediction_mm]) if symmetric else there))

    return _distances(y_pred, y, include_background, spacing, np.inf, value)



def compute_dice(
    y_pred: ArrayLike,
    y: ArrayLike,
    include_background: bool = True,
    ignore_empty: bool = True,
    num_classes: int | None = None,
    per_component: bool = False,
    ignore_index: int | None = None,
) -> Values:
    """The Dice coefficient of every class of every image, ``[batch, class]``.

    Args:
        y_pred, y: binary masks ``[batch, class, ...]``; or label maps ``[batch, 1, ...]``. For label maps as
            predictions, ``num_classes`` must be given.
        include_background: whether the first class counts.
        ignore_empty: whether a class without truth is NaN; else it is 1 without a prediction, and 0 with one.
        num_classes: the number of classes, with the background; by default, that of ``y_pred``.

    Raises:
        ValueError: if shapes differ or values are not binary.
        NotImplementedError: for arguments that the module's help names.
    """
    _refuse(ignore_index=ignore_index is not None, per_component=per_component)
    shapes = [array_of(values, name).shape for values, name in ((y_pred, "y_pred"), (y, "y"))]
    if min(len(shape) for shape in shapes) < 3:
        raise ValueError("y_pred and y should have at least three dimensions")
    if shapes[0][:1] + shapes[0][2:] != shapes[1][:1] + shapes[1][2:]:
        raise ValueError(f"y_pred and y should have same shapes, got {shapes[0]} and {shapes[1]}")
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    classes = num_classes or shapes[0][1]
    one_hot = []
    for values, name, shape in ((y_pred, "y_pred", shapes[0]), (y, "y", shapes[1])):
        if shape[1] > 1:
            if shape[1] != classes:
                raise ValueError(f"{name} has {shape[1]} classes, expected {classes}")
            one_hot.append(_binary(values, name))
        elif classes == 1:
            one_hot.append(_binary(values, name))
        else:
            array = array_of(values, name)
            if array.dtype.kind == "f":
                if not (np.isfinite(array).all() and (array % 1 == 0).all()):
                    raise ValueError(f"{name} must have whole numbers: it has one channel, so it is read as a label map")
                array = array.astype(np.int64)
            labels = labels_of(array, name)
            one_hot.append(labels == np.arange(classes).reshape(1, -1, *[1] * (labels.ndim - 2)))
    predicted, truth = one_hot
    first = 1 if classes > 1 and not include_background else 0
    axes = tuple(range(2, predicted.ndim))
    both = np.count_nonzero(predicted & truth, axis=axes)
    marked, found = np.count_nonzero(truth, axis=axes), np.count_nonzero(predicted, axis=axes)
    empty = np.nan if ignore_empty else np.where(found == 0, 1.0, 0.0)
    dice = np.where(marked > 0, 2.0 * both / np.maximum(marked + found, 1), empty)
    return dice[:, first:].astype(np.float32)


def _reduced(values: Values, reduction: str) -> tuple[Any, Any]:
    """Values that are not NaN, reduced, and their number."""
    choice_of(reduction, _REDUCTIONS, "reduction")
    counts = (~np.isnan(values)).astype(np.float32)
    if reduction == "none":
        return values, counts
    values = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf)

    def mean(values: Values, counts: Values, axis: int) -> tuple[Values, Values]:
        total, number = values.sum(axis=axis), counts.sum(axis=axis)
        return np.where(number > 0, total / np.maximum(number, 1), 0).astype(np.float32), number

    if reduction == "mean":
        per_image, number = mean(values, counts, 1)
        value, count = mean(per_image, (number > 0).astype(np.float32), 0)
        # As in MONAI, the mean is an array of one value, and the count is a number.
        return np.atleast_1d(value), count
    axis = {"sum": None, "mean_batch": 0, "sum_batch": 0, "mean_channel": 1, "sum_channel": 1}[reduction]
    if axis is not None and reduction.startswith("mean"):
        return mean(values, counts, axis)
    return values.sum(axis=axis), counts.sum(axis=axis)


class _Metric:
    """Collects the values of batches."""

    def __init__(self, reduction: str, get_not_nans: bool) -> None:
        self.reduction, self.get_not_nans = str(getattr(reduction, "value", reduction)), get_not_nans
        choice_of(self.reduction, _REDUCTIONS, "reduction")
        self._batches: list[Values] = []

    def _compute(self, y_pred: ArrayLike, y: ArrayLike, **kwargs: Any) -> Values:
        raise NotImplementedError

    def __call__(self, y_pred: ArrayLike, y: ArrayLike, **kwargs: Any) -> Values:
        """The values of a batch, which :meth:`aggregate` reduces with those of the batches before.

        A list has one array ``[class, ...]`` per image.
        """
        if isinstance(y_pred, (list, tuple)) and isinstance(y, (list, tuple)):
            if len(y_pred) != len(y) or not y:
                raise ValueError(f"y_pred and y should have the same length, got {len(y_pred)} and {len(y)}")
            pairs = ((array_of(a, "y_pred")[None], array_of(b, "y")[None]) for a, b in zip(y_pred, y, strict=True))
            values = np.concatenate([self._compute(*pair, **kwargs) for pair in pairs])
        else:
            values = self._compute(y_pred, y, **kwargs)
        self._batches.append(values)
        return values

    def aggregate(self, reduction: str | None = None) -> Any:
        """The reduced values of all batches since :meth:`reset`; with ``get_not_nans``, also their number."""
        if not self._batches:
            raise ValueError("there are no values to aggregate: call the metric first")
        chosen = str(getattr(reduction, "value", reduction)) if reduction else self.reduction
        values, counts = _reduced(np.concatenate(self._batches), chosen)
        return (values, counts) if self.get_not_nans else values

    def reset(self) -> None:
        """Forgets all values."""
        self._batches.clear()


class HausdorffDistanceMetric(_Metric):
    """:func:`compute_hausdorff_distance` over batches. A call takes ``spacing``."""

    def __init__(
        self,
        include_background: bool = False,
        distance_metric: str = "euclidean",
        percentile: float | None = None,
        directed: bool = False,
        reduction: str = "mean",
        get_not_nans: bool = False,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        self._arguments: dict[str, Any] = {
            "include_background": include_background,
            "distance_metric": distance_metric,
            "percentile": percentile,
            "directed": directed,
            "ignore_index": ignore_index,
        }

    def _compute(self, y_pred: ArrayLike, y: ArrayLike, **kwargs: Any) -> Values:
        return compute_hausdorff_distance(y_pred, y, **self._arguments, **kwargs)


class SurfaceDistanceMetric(_Metric):
    """:func:`compute_average_surface_distance` over batches. A call takes ``spacing``."""

    def __init__(
        self,
        include_background: bool = False,
        symmetric: bool = False,
        distance_metric: str = "euclidean",
        reduction: str = "mean",
        get_not_nans: bool = False,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        self._arguments: dict[str, Any] = {
            "include_background": include_background,
            "symmetric": symmetric,
            "distance_metric": distance_metric,
            "ignore_index": ignore_index,
        }

    def _compute(self, y_pred: ArrayLike, y: ArrayLike, **kwargs: Any) -> Values:
        return compute_average_surface_distance(y_pred, y, **self._arguments, **kwargs)


class DiceMetric(_Metric):
    """:func:`compute_dice` over batches."""

    def __init__(
        self,
        include_background: bool = True,
        reduction: str = "mean",
        get_not_nans: bool = False,
        ignore_empty: bool = True,
        num_classes: int | None = None,
        return_with_label: bool | list[str] = False,
        per_component: bool = False,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        _refuse(return_with_label=return_with_label)
        self._arguments: dict[str, Any] = {
            "include_background": include_background,
            "ignore_empty": ignore_empty,
            "num_classes": num_classes,
            "per_component": per_component,
            "ignore_index": ignore_index,
        }

    def _compute(self, y_pred: ArrayLike, y: ArrayLike, **kwargs: Any) -> Values:
        return compute_dice(y_pred, y, **self._arguments, **kwargs)
