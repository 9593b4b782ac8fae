"""Segmentation metrics for NumPy arrays, with explicit conventions.

    >>> import numpy as np
    >>> from asyndgan_metrics import score
    >>> truth = np.array([[1, 1, 0, 0]])
    >>> prediction = np.array([[0, 1, 0, 0]])
    >>> scores = score(truth, prediction, spacing_mm=(1.0, 0.5))
    >>> round(scores["dice"], 3), scores["hd95"]
    (0.667, 0.475)

Every nonzero element of a mask is marked. Distances are in millimetres. A metric without a value is None, and
``Scores.undefined`` has the reason: it is never NaN, and never left out.

``asyndgan_metrics.medpy`` has the functions of ``medpy.metric.binary``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _native
from ._native import UndefinedMetric, __version__

__all__ = [
    "Scores",
    "SurfaceDistances",
    "UndefinedMetric",
    "__version__",
    "hd95",
    "score",
    "score_cases",
    "score_instances",
    "score_labels",
]

Convention = Literal["standard", "monai", "medpy", "paper"]
Empty = Literal["undefined", "inf", "diagonal"]

_DISTANCES = ("hausdorff", "hd95", "assd")
_BOTH_EMPTY = "truth and prediction are both empty"


class Scores(dict[str, "float | None"]):
    """The metrics of a case by name; None where a metric has no value.

    ``undefined`` has the reason for each of those.
    """

    undefined: dict[str, str]

    def __init__(self, values: dict[str, float], undefined: dict[str, str]) -> None:
        super().__init__(sorted({**values, **dict.fromkeys(undefined)}.items()))
        self.undefined = undefined


def _mask(mask: ArrayLike) -> NDArray[np.bool_]:
    array = np.asarray(mask)
    return array if array.dtype == np.bool_ else array != 0


def _labels(labels: ArrayLike) -> NDArray[np.uint32]:
    array = np.asarray(labels)
    if array.dtype.kind not in "biu":
        raise TypeError(f"a label map must have an integer type, got {array.dtype}")
    if array.size and (int(array.min()) < 0 or int(array.max()) > np.iinfo(np.uint32).max):
        raise ValueError("labels must be from 0 to 4294967295")
    return array.astype(np.uint32, copy=False)


def _spacing(spacing_mm: float | Sequence[float] | None, axes: int) -> list[float]:
    if spacing_mm is None:
        return [1.0] * axes
    if isinstance(spacing_mm, (int, float)):
        return [float(spacing_mm)] * axes
    return [float(spacing) for spacing in spacing_mm]


def score(
    truth: ArrayLike,
    prediction: ArrayLike,
    spacing_mm: float | Sequence[float] | None = None,
    *,
    tolerance_mm: float = 1.0,
    convention: Convention = "standard",
    empty: Empty = "undefined",
) -> Scores:
    """All metrics of a mask: dice, jaccard, sensitivity, specificity, precision and volume_similarity, and in
    millimetres hausdorff, hd95, assd, and nsd (surface Dice at the tolerance).

    Args:
        truth: the annotator's mask, with one to three axes; nonzero elements are marked.
        prediction: the mask to score, of the same shape.
        spacing_mm: the size of an element along each axis, or of all axes; 1 by default.
        tolerance_mm: the distance at which nsd counts a part of a surface as found.
        convention: on what implementations disagree.
            ``standard`` and ``monai``: HD95 is the larger of the 95th percentiles of both directions.
            ``medpy`` and ``paper``: HD95 is the 95th percentile of both directions together. If both masks are empty,
            overlap metrics and nsd are 1 for ``medpy`` and 0 for ``paper``; otherwise they are undefined.
        empty: the distances if one of the masks is empty: ``undefined``; ``inf``; or the ``diagonal`` of the image.
            With the last two, distances are 0 if both masks are empty.

    Raises:
        ValueError: if shapes, spacings or names are not valid.
    """
    if empty not in ("undefined", "inf", "diagonal"):
        raise ValueError(f"{empty} is not a choice for empty masks: use undefined, inf or diagonal")
    truth, prediction = _mask(truth), _mask(prediction)
    spacing = _spacing(spacing_mm, truth.ndim)
    values, undefined = _native.masks(truth, prediction, spacing, tolerance_mm, convention)
    if empty != "undefined":
        far = float("inf") if empty == "inf" else float(np.linalg.norm(np.multiply(truth.shape, spacing)))
        for name in _DISTANCES:
            if name in undefined:
                values[name] = 0.0 if undefined.pop(name) == _BOTH_EMPTY else far
    return Scores(values, undefined)


def score_labels(
    truth: ArrayLike,
    prediction: ArrayLike,
    spacing_mm: float | Sequence[float] | None = None,
    *,
    labels: Iterable[int] | None = None,
    **options: Any,
) -> dict[int, Scores]:
    """The metrics of each label of two label maps, by label.

    Args:
        truth, prediction: label maps of the same shape; 0 is background.
        spacing_mm, options: as in :func:`score`.
        labels: the labels to score; by default all but 0 that are in either map.
    """
    truth, prediction = _labels(truth), _labels(prediction)
    if labels is None:
        labels = (int(label) for label in np.union1d(truth, prediction) if label != 0)
    return {label: score(truth == label, prediction == label, spacing_mm, **options) for label in labels}


def score_instances(truth: ArrayLike, prediction: ArrayLike, *, convention: Convention = "standard") -> Scores:
    """All instance metrics: aji, aji_plus, pq, sq, f1 (at an intersection over union of 0.5) and object_dice.

    Args:
        truth, prediction: label maps of the same shape, one number per instance; 0 is background.
        convention: the value if both are empty: undefined, or 1 for ``medpy`` and 0 for ``paper``.
    """
    return Scores(*_native.instances(_labels(truth), _labels(prediction), convention))


def score_cases(
    cases: Iterable[tuple[ArrayLike, ArrayLike]],
    spacing_mm: float | Sequence[float] | None = None,
    *,
    threads: int | None = None,
    **options: Any,
) -> list[Scores]:
    """:func:`score` of many pairs of truth and prediction, on several threads; in the order of the cases.

    Args:
        cases: pairs of masks.
        spacing_mm, options: as in :func:`score`, for all cases.
        threads: by default one per core.
    """
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        return list(pool.map(lambda case: score(case[0], case[1], spacing_mm, **options), cases))


def hd95(truth: ArrayLike, prediction: ArrayLike, spacing_mm: float | Sequence[float] | None = None) -> float:
    """The 95 % Hausdorff distance in millimetres: the larger of the 95th percentiles of both directions.

    Raises:
        UndefinedMetric: if a mask is empty.
    """
    return SurfaceDistances(truth, prediction, spacing_mm).percentile(95.0)


class SurfaceDistances:
    """The distances between the surfaces of two masks, measured once; every surface metric is computed from them.

    The surface is the set of marked elements with an unmarked face neighbour; everything outside of the array counts
    as unmarked.

    Raises:
        UndefinedMetric: if a mask is empty.
    """

    def __init__(self, truth: ArrayLike, prediction: ArrayLike, spacing_mm: float | Sequence[float] | None = None) -> None:
        truth, prediction = _mask(truth), _mask(prediction)
        self._distances = _native.Distances(truth, prediction, _spacing(spacing_mm, truth.ndim))

    def hausdorff(self) -> float:
        """The largest distance, in millimetres."""
        return self.percentile(100.0)

    def percentile(self, percent: float, *, pooled: bool = False) -> float:
        """A percentile with linear interpolation: the larger of both directions, or of both directions pooled."""
        return self._distances.percentile(percent, pooled)

    def assd(self) -> float:
        """The average symmetric surface distance: the mean of all distances of both directions."""
        return self._distances.assd()

    def surface_dice(self, tolerance_mm: float) -> float:
        """The share of both surfaces that lies within the tolerance of the other."""
        return self._distances.surface_dice(tolerance_mm)

    @property
    def truth_to_prediction_mm(self) -> NDArray[np.float64]:
        """From each element of the truth's surface to the prediction's, ascending."""
        return np.asarray(self._distances.truth_to_prediction_mm())

    @property
    def prediction_to_truth_mm(self) -> NDArray[np.float64]:
        """From each element of the prediction's surface to the truth's, ascending."""
        return np.asarray(self._distances.prediction_to_truth_mm())
