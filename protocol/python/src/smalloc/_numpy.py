"""What is asked of numpy, where that is installed."""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Any, Tuple

from ._errors import Status, UnknownTypeError
from ._types import ElementType


@functools.lru_cache(maxsize=None)
def find_numpy() -> Any:
    """Give numpy, or None where it is not installed. It is looked for once."""
    try:
        return import_module("numpy")
    except ImportError:
        return None


@functools.lru_cache(maxsize=None)
def keeps_capsules() -> bool:
    """Whether numpy keeps the capsule of `__array_struct__`, and not its owner alone."""
    major, minor = find_numpy().__version__.split(".")[:2]
    return (int(major), int(minor)) >= (1, 23)


@functools.lru_cache(maxsize=64)
def dtype_of(type: ElementType) -> Any:
    """Give an element type as numpy's dtype. Raises ImportError, UnknownTypeError."""
    numpy = import_module("numpy")
    if type is ElementType.BFLOAT16:
        try:
            return numpy.dtype(import_module("ml_dtypes").bfloat16)
        except ImportError:
            raise UnknownTypeError(
                Status.UNKNOWN_TYPE, "numpy has no Bfloat16; the package ml_dtypes does"
            ) from None
    return numpy.dtype(type.typestr)


def array_over(memory: memoryview, type: ElementType, shape: Tuple[int, ...]) -> Any:
    """Give an array over memory, which holds just its elements, without a copy.

    `frombuffer` of a memoryview is the one way in which the array keeps the memory from being
    unmapped, whatever else lets go of it. Of no bytes it makes nothing, and there is nothing to
    share. Raises ImportError, UnknownTypeError.
    """
    numpy, dtype = import_module("numpy"), dtype_of(type)
    if not len(memory):
        return numpy.zeros(shape, dtype)
    return numpy.frombuffer(memory, dtype).reshape(shape)
