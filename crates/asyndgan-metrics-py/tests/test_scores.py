"""The package's own functions."""

import math

import asyndgan_metrics
import asyndgan_metrics.medpy
import numpy as np
import pytest
from asyndgan_metrics import (
    SurfaceDistances,
    UndefinedMetric,
    hd95,
    score,
    score_cases,
    score_instances,
    score_labels,
)

TRUTH = np.array([[1, 1, 0, 0], [1, 1, 0, 0]])
PREDICTION = np.array([[0, 1, 1, 0], [0, 1, 1, 0]])


def test_values_by_hand():
    scores = score(TRUTH, PREDICTION, (1.0, 0.5), tolerance_mm=0.4)
    assert (scores["dice"], scores["jaccard"], scores["sensitivity"]) == (0.5, 1 / 3, 0.5)
    assert (scores["hausdorff"], scores["hd95"], scores["assd"], scores["nsd"]) == (0.5, 0.5, 0.25, 0.5)
    assert scores.undefined == {}
    assert hd95(TRUTH, PREDICTION, (1.0, 0.5)) == 0.5
    # Any type that is not zero is marked, in any memory order.
    for other in (TRUTH.astype(float), np.asfortranarray(TRUTH).astype(np.uint8), TRUTH.astype(bool), TRUTH.tolist()):
        assert score(other, PREDICTION, (1.0, 0.5), tolerance_mm=0.4) == scores
    assert score(TRUTH, PREDICTION, 2.0) == score(TRUTH, PREDICTION, (2.0, 2.0))
    flipped = score(TRUTH[:, ::-1], PREDICTION[:, ::-1], (1.0, 0.5), tolerance_mm=0.4)
    assert flipped == scores


def test_empty_masks():
    empty = np.zeros_like(TRUTH)
    missed = score(TRUTH, empty)
    assert (missed["dice"], missed["nsd"], missed["hd95"]) == (0.0, 0.0, None)
    assert missed.undefined["hd95"] == "the prediction is empty" and missed.undefined["precision"]
    assert score(TRUTH, empty, empty="inf")["hd95"] == math.inf
    diagonal = score(TRUTH, empty, (3.0, 0.5), empty="diagonal")
    assert (diagonal["hd95"], diagonal["assd"]) == (math.hypot(6, 2), math.hypot(6, 2)) and "hd95" not in diagonal.undefined
    assert score(empty, empty, empty="diagonal")["hd95"] == 0.0
    both = [score(empty, empty, convention=name)["dice"] for name in ("standard", "monai", "medpy", "paper")]
    assert both == [None, None, 1.0, 0.0]
    with pytest.raises(UndefinedMetric, match="the truth is empty"):
        hd95(empty, TRUTH)


def test_conventions_of_hd95():
    truth, prediction = np.zeros(60, bool), np.zeros(60, bool)
    truth[:40:2], prediction[:2] = True, True
    distances = SurfaceDistances(truth, prediction)
    expected = [distances.percentile(95), distances.percentile(95, pooled=True)]
    assert expected[0] != expected[1]
    assert [score(truth, prediction, convention=name)["hd95"] for name in ("standard", "medpy")] == expected
    assert distances.hausdorff() == distances.truth_to_prediction_mm[-1] == 37.0
    assert distances.prediction_to_truth_mm.tolist() == [0.0, 1.0]


def test_labels_instances_and_cases():
    truth, prediction = np.array([[1, 1, 0, 2]]), np.array([[1, 0, 0, 3]])
    by_label = score_labels(truth, prediction)
    assert list(by_label) == [1, 2, 3]
    assert (by_label[1]["dice"], by_label[2]["dice"], by_label[3].undefined["hd95"]) == (2 / 3, 0.0, "the truth is empty")
    assert list(score_labels(truth, prediction, labels=[1])) == [1]
    instances = score_instances(truth, prediction)
    assert instances["f1"] == 0.5 and instances["aji"] == pytest.approx(2 / 3)
    one = score(TRUTH, PREDICTION)
    assert score_cases([(TRUTH, PREDICTION)] * 5, threads=2) == [one] * 5


def test_bad_input_is_refused():
    for truth, prediction, spacing in (
        (TRUTH, PREDICTION[:1], None),
        (TRUTH, PREDICTION, (1.0,)),
        (TRUTH, PREDICTION, (1.0, 0.0)),
        (TRUTH, PREDICTION, (1.0, math.nan)),
        (np.ones((2, 2, 2, 2)), np.ones((2, 2, 2, 2)), None),
    ):
        with pytest.raises(ValueError):
            score(truth, prediction, spacing)
    with pytest.raises(ValueError, match="convention"):
        score(TRUTH, PREDICTION, convention="mine")
    with pytest.raises(ValueError, match="empty masks"):
        score(TRUTH, PREDICTION, empty="zero")
    with pytest.raises(ValueError, match="percentage"):
        SurfaceDistances(TRUTH, PREDICTION).percentile(101)
    for labels in (TRUTH - 1, TRUTH.astype(np.int64) * 2**33):
        with pytest.raises(ValueError, match="labels"):
            score_instances(labels, labels)
    with pytest.raises(TypeError):
        score_labels(TRUTH * 0.5, PREDICTION)
    with pytest.raises(ValueError, match="shape"):
        score_instances(TRUTH, PREDICTION[:1])


def test_examples_of_the_documentation():
    import doctest

    for module in (asyndgan_metrics, asyndgan_metrics.medpy):
        result = doctest.testmod(module)
        assert result.attempted > 0 and result.failed == 0
