"""The functions of MONAI: its own values for random masks, and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asyndgan_metrics import monai

from monai_cases import CASES, masks

GOLDEN = json.loads((Path(__file__).parent / "monai_golden.json").read_text())
METRICS: dict[str, Any] = {
    "hausdorff": (monai.compute_hausdorff_distance, monai.HausdorffDistanceMetric),
    "average": (monai.compute_average_surface_distance, monai.SurfaceDistanceMetric),
    "dice": (monai.compute_dice, monai.DiceMetric),
}


@pytest.mark.parametrize("number", range(len(CASES)))
def test_values_and_reductions_are_those_of_monai(number: int) -> None:
    case, expected = CASES[number], GOLDEN[number]
    compute, metric_class = METRICS[case["metric"]]
    y_pred, y = masks(case)
    found = compute(y_pred.astype(np.float32), y.astype(np.float32), **case["arguments"])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.array(expected["values"], np.float32), rtol=1e-6)
    arguments = dict(case["arguments"])
    spacing = arguments.pop("spacing", None)
    for reduction, (value, count) in expected["reductions"].items():
        metric = metric_class(**arguments, reduction=reduction, get_not_nans=True)
        # In two batches.
        rows = spacing if spacing is not None and np.ndim(spacing) == 2 else None
        for part in (slice(0, 1), slice(1, 3)):
            keywords = {} if spacing is None else {"spacing": rows[part] if rows else spacing}
            metric(y_pred[part], y[part], **keywords)
        values, counts = metric.aggregate()
        assert np.shape(values) == np.shape(value), reduction
        np.testing.assert_allclose(np.asarray(values), np.asarray(value), rtol=1e-5, err_msg=reduction)
        np.testing.assert_allclose(np.asarray(counts).reshape(-1), np.reshape(count, -1))
        metric.reset()
        with pytest.raises(ValueError, match="no values"):
            metric.aggregate()


def test_a_list_is_a_batch() -> None:
    y_pred, y = masks(CASES[0])
    metric = monai.DiceMetric()
    np.testing.assert_array_equal(metric(list(y_pred), list(y)), monai.compute_dice(y_pred, y))


def test_label_maps_are_one_hot_classes() -> None:
    labels = np.array([[[[0, 1, 2], [2, 1, 0]]]])
    one_hot = labels == np.arange(3).reshape(1, 3, 1, 1)
    moved = np.roll(labels, 1, axis=3)
    expected = monai.compute_dice(moved == np.arange(3).reshape(1, 3, 1, 1), one_hot)
    np.testing.assert_array_equal(monai.compute_dice(moved, labels, num_classes=3), expected)
    np.testing.assert_array_equal(monai.compute_dice(moved.astype(float), one_hot, num_classes=3), expected)


def test_what_monai_would_read_in_silence_is_refused() -> None:
    y = np.zeros((1, 2, 4, 4))
    half = np.full((1, 2, 4, 4), 0.5)
    for compute in (monai.compute_hausdorff_distance, monai.compute_average_surface_distance, monai.compute_dice):
        with pytest.raises(ValueError, match="0 and 1"):
            compute(half, y)
        with pytest.raises(ValueError, match="same shapes"):
            compute(np.zeros((1, 2, 4, 5)), y)
        with pytest.raises(ValueError, match="three dimensions"):
            compute(np.zeros((4, 4)), np.zeros((4, 4)))
        with pytest.raises(NotImplementedError, match="ignore_index"):
            compute(y, y, ignore_index=0)
    for spacing in ([1.0, 2.0, 3.0], [[1.0, 1.0], [1.0, 1.0]], -1.0, [[1.0, 2.0, 3.0]], float("nan"), [[1.0, 2.0], 3.0]):
        for mask in (np.ones((1, 2, 4, 4)), y):
            with pytest.raises(ValueError, match="spacing"):
                monai.compute_hausdorff_distance(mask, mask, spacing=spacing)
    with pytest.raises(ValueError, match="spatial axes"):
        monai.compute_hausdorff_distance(np.ones((1, 2, 2, 2, 2, 2)), np.ones((1, 2, 2, 2, 2, 2)))
    with pytest.raises(ValueError, match="whole numbers"):
        monai.compute_dice(np.full((1, 1, 4, 4), np.nan), y, num_classes=2)
    with pytest.raises(ValueError, match="num_classes"):
        monai.compute_dice(y, y, num_classes=0)
    with pytest.raises(ValueError, match="same length"):
        monai.DiceMetric()([], [])
    with pytest.raises(ValueError, match="percentile"):
        monai.compute_hausdorff_distance(y, y, percentile=101)
    with pytest.raises(NotImplementedError, match="distance_metric"):
        monai.compute_hausdorff_distance(y, y, distance_metric="taxicab")
    with pytest.raises(ValueError, match="reduction"):
        monai.DiceMetric(reduction="median")


def test_classes_are_counted_on_each_side_and_graphs_are_detached() -> None:
    two, one = np.zeros((1, 2, 5, 5), bool), np.zeros((1, 1, 5, 5), bool)
    two[0, 1, 1:3, 1:3] = one[0, 0, 2:4, 1:3] = True
    np.testing.assert_allclose(monai.compute_hausdorff_distance(two, one), [[1.0]])
    np.testing.assert_allclose(monai.compute_hausdorff_distance(one, two), [[1.0]])

    class Tensor:
        """A tensor that is part of a graph."""

        def __init__(self, values: np.ndarray) -> None:
            self.values = values

        def detach(self) -> np.ndarray:
            return self.values

        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")

    metric = monai.DiceMetric()
    assert metric(Tensor(two.astype(float)), two).shape == (1, 2)
    assert metric([Tensor(two[0].astype(float))], [two[0]]).shape == (1, 2)
