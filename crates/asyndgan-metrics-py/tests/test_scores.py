"""The package's own functions."""

import math

import asyndgan_metrics
import asyndgan_metrics.medpy
import asyndgan_metrics.monai
import numpy as np
import pytest
from asyndgan_metrics import (
    SurfaceDistances,
    UndefinedMetric,
    connected_components,
    hd95,
    score,
    score_cases,
    score_components,
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
    assert diagonal["hd95"] == diagonal["assd"] == math.hypot(6, 2) and "hd95" not in diagonal.undefined
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
    assert (by_label[1]["dice"], by_label[2]["dice"]) == (2 / 3, 0.0)
    assert by_label[3].undefined["hd95"] == "the truth is empty"
    assert list(score_labels(truth, prediction, labels=[1])) == [1]
    instances = score_instances(truth, prediction)
    assert instances["f1"] == 0.5 and instances["aji"] == pytest.approx(2 / 3)
    one = score(TRUTH, PREDICTION)
    assert score_cases([(TRUTH, PREDICTION)] * 5, threads=2) == [one] * 5


def test_spacings_of_any_kind_and_of_each_case():
    for spacing in ([2.0, 2.0], np.array([2, 2]), 2, np.float32(2), np.array(2.0)):
        assert score(TRUTH, PREDICTION, spacing) == score(TRUTH, PREDICTION, (2.0, 2.0))
    cases = [(TRUTH, PREDICTION), (TRUTH, PREDICTION, (1.0, 0.5))]
    found = [scores["hd95"] for scores in score_cases(cases, 2.0)]
    assert found == [hd95(TRUTH, PREDICTION, 2.0), 0.5]


def test_a_generator_of_cases_is_read_as_cases_are_needed():
    read, scored_when_read = [], []

    def cases():
        for number in range(40):
            read.append(number)
            yield TRUTH, PREDICTION

    real = asyndgan_metrics.score

    def counting(*arguments, **options):
        scored_when_read.append(len(read))
        return real(*arguments, **options)

    asyndgan_metrics.score = counting
    try:
        assert len(score_cases(cases(), threads=1)) == 40
    finally:
        asyndgan_metrics.score = real
    # A case is scored before many more than two per thread have been read.
    assert all(count <= number + 4 for number, count in enumerate(scored_when_read))


class Image:
    """Elements in a row, like an image of SimpleITK."""

    def __len__(self):
        return TRUTH.size

    def __getitem__(self, place):
        return TRUTH.ravel()[place]


def test_bad_values_are_refused():
    four_axes = np.ones((2, 2, 2, 2))
    for truth, prediction, options in (
        (TRUTH, PREDICTION[:1], {}),
        (TRUTH, PREDICTION, {"spacing_mm": (1.0,)}),
        (TRUTH, PREDICTION, {"spacing_mm": (1.0, 0.0)}),
        (TRUTH, PREDICTION, {"spacing_mm": (1.0, math.nan)}),
        (four_axes, four_axes, {}),
        (np.array(True), np.array(True), {}),
        (TRUTH, np.where(TRUTH, 1.0, math.nan), {}),
        (TRUTH, PREDICTION, {"tolerance_mm": -1}),
        (TRUTH, PREDICTION, {"tolerance_mm": math.nan}),
        (TRUTH, PREDICTION, {"convention": "mine"}),
        (TRUTH, PREDICTION, {"convention": None}),
        (TRUTH, PREDICTION, {"empty": "zero"}),
    ):
        with pytest.raises(ValueError):
            score(truth, prediction, **options)
    distances = SurfaceDistances(TRUTH, PREDICTION)
    for refused in (lambda: distances.percentile(101), lambda: distances.surface_dice(-1.0)):
        with pytest.raises(ValueError):
            refused()


def test_what_is_not_an_array_of_numbers_is_refused():
    for truth in (None, 1, "truth.npy", [None, 1], np.array(["0", "1"]), Image(), TRUTH * 1j, {1, 2}):
        with pytest.raises(TypeError):
            score(truth, truth)
    for spacing in ("11", {1.0, 2.0}, (s for s in (1, 1)), [[1.0], [1.0]], ["1", "1"]):
        with pytest.raises(TypeError):
            score(TRUTH, PREDICTION, spacing)


def test_labels_and_cases_are_checked():
    for labels in (TRUTH - 1, TRUTH.astype(np.int64) * 2**33):
        with pytest.raises(ValueError, match="labels"):
            score_instances(labels, labels)
    with pytest.raises(TypeError):
        score_labels(TRUTH * 0.5, PREDICTION)
    with pytest.raises(ValueError, match="shape"):
        score_instances(TRUTH, PREDICTION[:1])
    for labels in (["1"], [1.5], "1", [None]):
        with pytest.raises(TypeError):
            score_labels(TRUTH, PREDICTION, labels=labels)
    with pytest.raises(ValueError):
        score_labels(TRUTH, PREDICTION, labels=[-1])
    assert [type(label) for label in score_labels(TRUTH, PREDICTION, labels=np.array([1, 2]))] == [int, int]
    with pytest.raises(ValueError):
        score_labels(np.zeros((3, 3), int), np.zeros((9, 9), int))
    with pytest.raises(ValueError, match="case 1: "):
        score_cases([(TRUTH, PREDICTION), (TRUTH, PREDICTION[:1])])
    for cases in ((TRUTH, PREDICTION), {"x": (TRUTH, PREDICTION)}, [(TRUTH,)]):
        with pytest.raises(TypeError, match="case 0"):
            score_cases(cases)


def test_examples_of_the_documentation():
    import doctest

    for module in (asyndgan_metrics, asyndgan_metrics.medpy, asyndgan_metrics.monai):
        result = doctest.testmod(module)
        assert result.attempted > 0 and result.failed == 0


def test_components_are_instances():
    truth = np.zeros((3, 8, 8), bool)
    truth[0, :2, :2] = truth[0, 2, 2] = truth[2, 5:, 5:] = True
    faces, corners = connected_components(truth, connectivity="faces"), connected_components(truth)
    assert (faces.max(), corners.max(), faces.dtype) == (3, 2, np.uint32)
    assert (faces[0, 0, 0], faces[0, 2, 2], faces[2, 5, 5], faces[1].max()) == (1, 2, 3, 0)
    prediction = np.array(truth, order="F")
    prediction[2] = False
    # One of two components is found, and nothing else.
    scores = score_components(truth, prediction)
    assert scores["f1"] == 2 / 3 and scores == score_instances(corners, connected_components(prediction))
    assert score_components(truth, prediction, connectivity="faces")["f1"] == 4 / 5
    assert score_components(np.zeros(3), np.zeros(3))["f1"] is None
    with pytest.raises(ValueError, match="connectivity"):
        connected_components(truth, connectivity="all")
    with pytest.raises(ValueError, match="axes"):
        connected_components(np.zeros((1, 1, 1, 1)))


def test_masks_and_labels_are_read_as_numpy_shows_them() -> None:
    # As Pillow exports a picture of one bit: booleans whose bytes are 255.
    drawn = np.zeros((6, 6), np.uint8)
    drawn[1:4, 1:4] = 255
    for truth, prediction in [(drawn.view(bool), drawn > 0), (drawn > 0, drawn.view(bool))]:
        assert score(truth, prediction)["dice"] == 1.0
        assert score(truth, prediction)["hd95"] == 0.0
    # A field of a structured array: labels that are five bytes apart.
    records = np.zeros((6, 6), [("other", "u1"), ("label", "u4")])
    records["label"][1:4, 1:4] = 7
    plain = np.ascontiguousarray(records["label"])
    assert score_instances(records["label"], plain)["aji"] == 1.0
    assert score_instances(plain, records["label"])["pq"] == 1.0
