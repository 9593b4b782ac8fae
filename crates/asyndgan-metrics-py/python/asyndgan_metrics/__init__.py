"""Segmentation metrics for NumPy arrays, with explicit conventions.

    >>> import numpy as np
    >>> from asyndgan_metrics import score
    >>> truth = np.array([[1, 1, 0, 0]])
    >>> prediction = np.array([[0, 1, 0, 0]])
    >>> scores = score(truth, prediction, spacing_mm=(1.0, 0.5))
    >>> round(scores["dice"], 3), scores["hd95"]
    (0.667, 0.475)

Every nonzero element of a mask is marked: threshold probabilities first. Distances are in millimetres. A metric without
a value is None, and ``Scores.undefined`` has the reason: it is never NaN, and never left out.

``asyndgan_metrics.medpy`` has the functions of ``medpy.metric.binary``, ``asyndgan_metrics.monai`` metrics of MONAI.
"""

from __future__ import annotations

import operator
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Literal, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _native
from ._inputs import Spacing, choice_of, labels_of, mask_of, spacing_of, tolerance_of
from ._native import UndefinedMetric, __version__

__all__ = [
    "Scores",
    "SurfaceDistances",
    "UndefinedMetric",
    "__version__",
    "connected_components",
    "hd95",
    "score",
    "score_cases",
    "score_components",
    "score_instances",
    "score_labels",
]

Convention = Literal["standard", "monai", "medpy", "paper"]
Empty = Literal["undefined", "inf", "diagonal"]
Connectivity = Literal["faces", "edges", "corners"]
Case = Union["tuple[ArrayLike, ArrayLike]", "tuple[ArrayLike, ArrayLike, Spacing]"]

_CONVENTIONS = ("standard", "monai", "medpy", "paper")
_EMPTY = ("undefined", "inf", "diagonal")
_CONNECTIVITY = ("faces", "edges", "corners")
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


def score(
    truth: ArrayLike,
    prediction: ArrayLike,
    spacing_mm: Spacing | None = None,
    *,
    tolerance_mm: float = 1.0,
    convention: Convention = "standard",
    empty: Empty = "undefined",
) -> Scores:
    """All metrics of a mask: dice, jaccard, sensitivity, specificity, precision and volume_similarity, and in
    millimetres hausdorff, hd95, assd, and nsd (surface Dice at the tolerance).

    nsd counts elements of the surfaces, as MONAI does; DeepMind's surface-distance weights them by area. A distance
    of the tolerance itself counts.

    Args:
        truth: the annotator's mask, with one to three axes; nonzero elements are marked.
        prediction: the mask to score, of the same shape.
        spacing_mm: the size of an element along each axis, or along all axes; 1 by default.
        tolerance_mm: the distance at which nsd counts a part of a surface as found.
        convention: on what implementations disagree.
            ``standard``: HD95 is the larger of the 95th percentiles of both directions. ``monai``: the same, and dice is
            None if the truth is empty.
            ``medpy``, and ``paper`` for the AsynDGAN papers: HD95 is the 95th percentile of both directions together,
            and if both masks are empty, dice, jaccard, volume_similarity and nsd are 1 (``medpy``) or 0 (``paper``).
            All other metrics without a value stay None.
        empty: the distances if one of the masks is empty: ``undefined``; ``inf``; or the ``diagonal`` of the image.
            With the last two, distances are 0 if both masks are empty.

    Raises:
        TypeError: if an argument is not an array of numbers.
        ValueError: if shapes, spacings, the tolerance or names are not valid, or a mask has NaN.
    """
    convention_name = choice_of(convention, _CONVENTIONS, "convention")
    choice_of(empty, _EMPTY, "choice for empty masks")
    marked, predicted = mask_of(truth, "truth"), mask_of(prediction, "prediction")
    spacing = spacing_of(spacing_mm, marked.ndim)
    values, undefined = _native.masks(marked, predicted, spacing, tolerance_of(tolerance_mm), convention_name)
    if empty != "undefined":
        far = float("inf") if empty == "inf" else float(np.linalg.norm(np.multiply(marked.shape, spacing)))
        for name in _DISTANCES:
            if name in undefined:
                values[name] = 0.0 if undefined.pop(name) == _BOTH_EMPTY else far
    return Scores(values, undefined)


def score_labels(
    truth: ArrayLike,
    prediction: ArrayLike,
    spacing_mm: Spacing | None = None,
    *,
    labels: Iterable[int] | None = None,
    tolerance_mm: float = 1.0,
    convention: Convention = "standard",
    empty: Empty = "undefined",
) -> dict[int, Scores]:
    """The metrics of each label of two label maps, by label.

    Args:
        truth, prediction: label maps of an integer type and of the same shape; 0 is background.
        labels: the labels to score; by default all but 0 that are in either map.
        spacing_mm, tolerance_mm, convention, empty: as in :func:`score`.

    Raises:
        TypeError: if a map or a label is not of an integer type.
        ValueError: as :func:`score`; or if a label is not from 0 to 4294967295.
    """
    marked, predicted = labels_of(truth, "truth"), labels_of(prediction, "prediction")
    if labels is None:
        labels = (int(label) for label in np.union1d(marked, predicted) if label != 0)
    chosen = [operator.index(label) for label in labels]
    if any(not 0 <= label < 2**32 for label in chosen):
        raise ValueError(f"labels must be from 0 to 4294967295, got {chosen}")

    def of(mask: NDArray[np.bool_], other: NDArray[np.bool_]) -> Scores:
        return score(mask, other, spacing_mm, tolerance_mm=tolerance_mm, convention=convention, empty=empty)

    if not chosen:
        # Arguments are checked although there is nothing to score.
        of(marked != 0, predicted != 0)
    return {label: of(marked == label, predicted == label) for label in chosen}


def score_instances(truth: ArrayLike, prediction: ArrayLike, *, convention: Convention = "standard") -> Scores:
    """All instance metrics: aji, aji_plus, pq, sq, f1 (at an intersection over union of 0.5) and object_dice.

    Args:
        truth, prediction: label maps of an integer type and of the same shape, one number per instance; 0 is
            background.
        convention: the value if both are empty: undefined, or 1 for ``medpy`` and 0 for ``paper``.

    Raises:
        TypeError: if a map is not of an integer type.
        ValueError: if the shapes differ, or a label is not from 0 to 4294967295.
    """
    name = choice_of(convention, _CONVENTIONS, "convention")
    return Scores(*_native.instances(labels_of(truth, "truth"), labels_of(prediction, "prediction"), name))


def connected_components(mask: ArrayLike, *, connectivity: Connectivity = "corners") -> NDArray[np.uint32]:
    """The connected components of a mask as a label map: numbers from 1 in row-major order; 0 is background.

    Args:
        mask: one to three axes; nonzero elements are marked.
        connectivity: which neighbours belong together: those that share a face (4 in 2D, 6 in 3D); a face or an edge
            (8 and 18); or a face, an edge or a corner (8 and 26). As ``scipy.ndimage.label`` with a structure of
            connectivity 1, 2 or 3.

    Raises:
        TypeError: if the mask is not an array of numbers.
        ValueError: if it has more than three axes or NaN, or the name is not valid.
    """
    choice_of(connectivity, _CONNECTIVITY, "connectivity")
    return _native.components(mask_of(mask, "mask"), connectivity)


def score_components(
    truth: ArrayLike,
    prediction: ArrayLike,
    *,
    connectivity: Connectivity = "corners",
    convention: Convention = "standard",
) -> Scores:
    """The instance metrics of two masks in which each connected component is an instance, such as a lesion.

    Args:
        truth, prediction: masks of the same shape with one to three axes; nonzero elements are marked.
        connectivity: as in :func:`connected_components`.
        convention: as in :func:`score_instances`.

    Raises:
        TypeError: if an argument is not an array of numbers.
        ValueError: if the shapes differ, a mask has NaN, or a name is not valid.
    """
    instances = (connected_components(mask, connectivity=connectivity) for mask in (truth, prediction))
    return score_instances(*instances, convention=convention)


def score_cases(
    cases: Iterable[Case],
    spacing_mm: Spacing | None = None,
    *,
    threads: int | None = None,
    tolerance_mm: float = 1.0,
    convention: Convention = "standard",
    empty: Empty = "undefined",
) -> list[Scores]:
    """:func:`score` of many cases on several threads, in the order of the cases.

    Args:
        cases: pairs of truth and prediction, or triples with the spacing of the case. A generator is read as cases
            are needed: at most two per thread are in memory.
        spacing_mm: for cases without a spacing of their own.
        threads: by default one per core.
        tolerance_mm, convention, empty: as in :func:`score`.

    Raises:
        TypeError, ValueError: as :func:`score`, with the number of the case, from 0.
    """

    def of(number: int, case: Case) -> Scores:
        if not isinstance(case, (tuple, list)) or len(case) not in (2, 3):
            raise TypeError(f"case {number}: expected truth and prediction, and optionally a spacing, as a tuple")
        spacing = case[2] if len(case) == 3 else spacing_mm
        try:
            return score(case[0], case[1], spacing, tolerance_mm=tolerance_mm, convention=convention, empty=empty)
        except (TypeError, ValueError) as error:
            raise type(error)(f"case {number}: {error}") from error

    workers = threads or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        return list(_in_order(pool, of, iter(cases), 2 * workers))


def _in_order(
    pool: ThreadPoolExecutor, of: Callable[[int, Case], Scores], cases: Iterator[Case], limit: int
) -> Iterator[Scores]:
    """The scores in order, with at most so many cases read and not scored yet."""
    numbered = enumerate(cases)
    running: deque[Future[Scores]] = deque(pool.submit(of, *case) for case in islice(numbered, limit))
    while running:
        yield running.popleft().result()
        running.extend(pool.submit(of, *case) for case in islice(numbered, 1))


def hd95(truth: ArrayLike, prediction: ArrayLike, spacing_mm: Spacing | None = None) -> float:
    """The 95 % Hausdorff distance in millimetres: the larger of the 95th percentiles of both directions.

    medpy's HD95, which pools both directions and takes the prediction first, is ``asyndgan_metrics.medpy.hd95``.

    Raises:
        UndefinedMetric: if a mask is empty.
        TypeError, ValueError: as :func:`score`.
    """
    return SurfaceDistances(truth, prediction, spacing_mm).percentile(95.0)


class SurfaceDistances:
    """The distances between the surfaces of two masks, measured once; every surface metric is computed from them.

    The surface is the set of marked elements with an unmarked face neighbour; everything outside of the array counts
    as unmarked.

    Raises:
        UndefinedMetric: if a mask is empty.
        TypeError, ValueError: as :func:`score`.
    """

    def __init__(self, truth: ArrayLike, prediction: ArrayLike, spacing_mm: Spacing | None = None) -> None:
        marked, predicted = mask_of(truth, "truth"), mask_of(prediction, "prediction")
        self._distances = _native.Distances(marked, predicted, spacing_of(spacing_mm, marked.ndim))

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
        """The share of both surfaces, counted in elements, that lies within the tolerance of the other."""
        return self._distances.surface_dice(tolerance_of(tolerance_mm))

    @property
    def truth_to_prediction_mm(self) -> NDArray[np.float64]:
        """From each element of the truth's surface to the prediction's, ascending."""
        return np.asarray(self._distances.truth_to_prediction_mm())

    @property
    def prediction_to_truth_mm(self) -> NDArray[np.float64]:
        """From each element of the prediction's surface to the truth's, ascending."""
        return np.asarray(self._distances.prediction_to_truth_mm())
