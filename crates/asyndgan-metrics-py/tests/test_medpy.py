"""medpy 0.5.2: its own test cases (tests/metric_/binary.py), the examples of its docstrings, and its definition."""

import json
from pathlib import Path

import numpy as np
import pytest
from asyndgan_metrics import medpy

from medpy_cases import CASES, CONNECTIVITIES, case, sequences

RESULT_MIN, REFERENCE_MIN = np.array([1, 0], bool), np.array([0, 1], bool)
RESULT_SYM = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]], bool)
REFERENCE_SYM = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)


def test_cases_of_medpy():
    for metric in (medpy.asd, medpy.assd):
        assert metric(RESULT_MIN, RESULT_MIN) == 0
        assert metric(RESULT_MIN, REFERENCE_MIN) == 1.0
        assert metric(RESULT_MIN, REFERENCE_MIN, voxelspacing=[2]) == 2.0
    assert medpy.asd(RESULT_SYM, REFERENCE_SYM) != medpy.asd(REFERENCE_SYM, RESULT_SYM)
    assert medpy.assd(RESULT_SYM, REFERENCE_SYM) == medpy.assd(REFERENCE_SYM, RESULT_SYM)


def test_examples_of_the_docstrings():
    one, two, three = np.array([0, 1, 0]), np.array([0, 1, 1]), np.array([1, 0, 0])
    pairs = ((one, one), (one, two), (two, one), (one, three))
    assert [medpy.ravd(*pair) for pair in pairs] == [0, -0.5, 1.0, 0]


def border(mask):
    """The elements of a mask with an unmarked face neighbour."""
    padded = np.pad(mask, 1)
    inner = padded.copy()
    for axis in range(mask.ndim):
        for step in (-1, 1):
            inner &= np.roll(padded, step, axis)
    return mask & ~inner[(slice(1, -1),) * mask.ndim]


def distances(result, reference, spacing):
    """From each element of one surface to the nearest of the other, by comparing all pairs."""
    places = [np.argwhere(border(mask)) * spacing for mask in (result, reference)]
    return np.sqrt(((places[0][:, None] - places[1][None]) ** 2).sum(-1)).min(1)


@pytest.mark.parametrize("shape, spacing", [((40,), (0.7,)), ((12, 17), (1.0, 0.5)), ((7, 9, 6), (3.0, 0.9, 1.1))])
def test_distances_are_those_of_the_definition(shape, spacing):
    rng = np.random.default_rng(1)
    for _ in range(20):
        result, reference = (rng.random(shape) < share for share in (0.3, 0.4))
        forth, back = distances(result, reference, spacing), distances(reference, result, spacing)
        expected = [
            max(forth.max(), back.max()),
            np.percentile(np.hstack((forth, back)), 95),
            forth.mean(),
            np.mean(np.hstack((forth, back))),
        ]
        found = [metric(result, reference, spacing) for metric in (medpy.hd, medpy.hd95, medpy.asd, medpy.assd)]
        assert np.allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_overlap_and_empty_masks():
    truth, empty = np.array([[2, 2, 0, 0]]), np.zeros((1, 4))
    half = np.array([[0, 0.5, 0.5, 0]])
    assert (medpy.dc(half, truth), medpy.jc(half, truth)) == (0.5, 1 / 3)
    assert (medpy.precision(half, truth), medpy.recall(half, truth), medpy.specificity(half, truth)) == (0.5, 0.5, 0.5)
    assert (medpy.dc(empty, empty), medpy.jc(empty, empty)) == (1.0, 1.0)
    assert (medpy.precision(empty, truth), medpy.recall(truth, empty)) == (0.0, 0.0)
    assert medpy.specificity(empty, np.ones(4)) == 0.0
    with pytest.raises(RuntimeError, match="The first supplied array does not contain any binary object."):
        medpy.hd95(empty, truth)
    with pytest.raises(RuntimeError, match="The second supplied array does not contain any binary object."):
        medpy.assd(truth, empty)
    with pytest.raises(RuntimeError, match="second supplied array"):
        medpy.ravd(truth, empty)
    with pytest.raises(NotImplementedError):
        medpy.hd(truth, truth, connectivity=2)


def test_shapes_that_broadcast_and_other_input():
    rng = np.random.default_rng(0)
    many, one = rng.random((6, 4, 4)) > 0.5, rng.random((1, 4, 4)) > 0.5
    true = np.count_nonzero(many & one)
    assert medpy.recall(many, one) == true / (true + np.count_nonzero(~many & one))
    assert medpy.precision(one, many) == true / (true + np.count_nonzero(one & ~many))
    both = np.count_nonzero(~many & ~one)
    assert medpy.specificity(many, one) == both / (both + np.count_nonzero(many & ~one))
    mask = np.ones((3, 3, 3))
    assert medpy.hd(mask, mask, voxelspacing=np.float32(2)) == 0.0
    with pytest.raises(RuntimeError, match="sequence argument must have length equal to input rank"):
        medpy.hd(mask, mask, voxelspacing=(1, 2))
    with pytest.raises(NotImplementedError):
        medpy.hd(mask[None], mask[None])
    with pytest.raises(ValueError, match="result and reference"):
        medpy.hd(mask, mask[1:])
    for bad in (None, "mask"):
        with pytest.raises(TypeError):
            medpy.dc(bad, bad)


def golden_values(name):
    golden = json.loads((Path(__file__).parent / "medpy_golden.json").read_text())[name]
    assert len(golden) == len(CASES)
    return golden


def test_correlations_are_those_of_medpy():
    for seed, expected in zip(CASES, golden_values("correlations")):
        both = sequences(seed)
        assert np.allclose(medpy.volume_correlation(*both), expected[0], rtol=1e-8, atol=0, equal_nan=True), seed
        if expected[1] is None:
            with pytest.raises(ValueError, match="at least two"):
                medpy.volume_change_correlation(*both)
        else:
            assert np.allclose(medpy.volume_change_correlation(*both), expected[1], rtol=1e-8, atol=0, equal_nan=True), seed


def test_correlations_of_other_input():
    first, second = [np.ones(3), np.ones(2), np.ones(1)], [np.ones(3), np.ones(2), np.zeros(1)]
    assert medpy.volume_correlation(first, second)[0] == pytest.approx(np.corrcoef([3, 2, 1], [3, 2, 0])[0, 1])
    assert np.isnan(medpy.volume_change_correlation(first, first)).all()
    with pytest.raises(ValueError, match="differ in length: 3 and 2"):
        medpy.volume_correlation(first, second[:2])
    with pytest.raises(TypeError, match=r"results\[0\]"):
        medpy.volume_correlation(["mask"], [np.ones(1)])


def test_objects_are_those_of_medpy():
    golden = golden_values("objects")
    for seed, expected in zip(CASES, golden):
        first, second, spacing = case(seed)
        shares = [[medpy.obj_tpr(first, second, c), medpy.obj_fpr(first, second, c)] for c in CONNECTIVITIES]
        assert shares == expected["shares"], seed
        found = [medpy.obj_asd(first, second, spacing), medpy.obj_assd(first, second, spacing)]
        assert np.allclose(found, expected["distances"], rtol=1e-12, equal_nan=True), seed


def test_objects_of_masks_without_any():
    mask, empty = np.eye(4), np.zeros((4, 4))
    assert medpy.obj_tpr(mask, empty) == 0.0 and medpy.obj_fpr(empty, mask) == 1.0
    with pytest.raises(ZeroDivisionError):
        medpy.obj_tpr(empty, mask)
    assert np.isnan(medpy.obj_assd(mask, empty))
    with pytest.raises(NotImplementedError):
        medpy.obj_tpr(mask[None, None], mask[None, None])
    with pytest.raises(NotImplementedError):
        medpy.obj_asd(mask, mask, connectivity=2)
