"""Checks and conversions of what callers pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

Spacing = Union[float, Sequence[float], "NDArray[np.floating[Any]]", "NDArray[np.integer[Any]]"]


def array_of(values: ArrayLike, name: str) -> NDArray[Any]:
    """An array of numbers.

    Objects that NumPy would read element by element, such as images of SimpleITK, lose their shape: they are refused.
    """
    is_array = isinstance(values, (np.ndarray, list, tuple)) or hasattr(values, "__array__")
    if not is_array:
        raise TypeError(f"{name} must be an array, got {type(values).__name__} (SimpleITK: use GetArrayFromImage)")
    # A tensor that is part of a graph cannot be read otherwise.
    array = np.asarray(values.detach() if hasattr(values, "detach") else values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must have numbers or booleans, got the type {array.dtype}")
    return array


def boolean(array: NDArray[Any]) -> NDArray[np.bool_]:
    """An array of booleans that are 0 or 1 in memory. Others, such as the 255 of a 1-bit picture of Pillow, are marked."""
    bytes_of = array.view(np.uint8)
    if bytes_of.size and int(bytes_of.max()) > 1:
        marked: NDArray[np.bool_] = bytes_of != 0
        return marked
    return array


def mask_of(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    """A mask of one to three axes, in which nonzero elements are marked."""
    array = array_of(values, name)
    if not 1 <= array.ndim <= 3:
        raise ValueError(f"{name} must have one to three axes, got {array.ndim}")
    if array.dtype == np.bool_:
        return boolean(array)
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(f"{name} has NaN")
    marked: NDArray[np.bool_] = array != 0
    return marked


def labels_of(values: ArrayLike, name: str) -> NDArray[np.uint32]:
    """A label map: integers from 0 to 4294967295."""
    array = array_of(values, name)
    if array.dtype.kind not in "biu":
        raise TypeError(f"{name} must be a label map of an integer type, got {array.dtype}")
    if array.size and (int(array.min()) < 0 or int(array.max()) > np.iinfo(np.uint32).max):
        raise ValueError(f"{name}: labels must be from 0 to 4294967295")
    # Elements at any other distance would be read wrongly, such as a field of a structured array.
    labels: NDArray[np.uint32] = np.require(array, np.uint32, "A")
    if any(stride % labels.itemsize for stride in labels.strides):
        labels = labels.copy()
    return labels


def spacing_of(spacing: Spacing | None, axes: int) -> list[float]:
    """One spacing per axis: the same for all, if there is a single one; 1 by default."""
    if spacing is None:
        return [1.0] * axes
    values = array_of(spacing, "spacing") if np.ndim(spacing) else np.asarray(spacing)
    if values.dtype.kind not in "iuf" or values.ndim > 1:
        raise TypeError("spacing must be a number, or one number per axis")
    return [float(value) for value in values] if values.ndim else [float(values)] * axes


def tolerance_of(tolerance_mm: float) -> float:
    """A distance that is not negative."""
    tolerance = float(tolerance_mm)
    if not 0 <= tolerance < float("inf"):
        raise ValueError(f"a tolerance must be at least 0 and finite, got {tolerance}")
    return tolerance


def choice_of(name: object, choices: tuple[str, ...], what: str) -> str:
    """One of some names."""
    if name not in choices:
        raise ValueError(f"{name!r} is not a {what}: use one of {', '.join(choices)}")
    return str(name)
