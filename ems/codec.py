"""Frozen values to JSON and back, exactly.

Domain values are plain dataclasses; pydantic reads their annotations, so there is no second description of them.
Floats survive the round trip bit for bit (shortest repr); NaN in an array is written as null and read back as NaN.
"""

import zlib
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainSerializer, PlainValidator, TypeAdapter

Value = TypeVar("Value")


def _floats(value: Any) -> NDArray[np.float64]:
    array = np.asarray(value, dtype=np.float64)
    array.setflags(write=False)
    return array


def _ints(value: Any) -> NDArray[np.int64]:
    array = np.asarray(value, dtype=np.int64)
    array.setflags(write=False)
    return array


def _listed(array: NDArray[Any]) -> list[Any]:
    listed: list[Any] = array.tolist()
    return listed


FloatArray = Annotated[
    NDArray[np.float64],
    PlainValidator(_floats, json_schema_input_type=list[float]),
    PlainSerializer(_listed, return_type=list[Any]),
]
IntArray = Annotated[
    NDArray[np.int64],
    PlainValidator(_ints, json_schema_input_type=list[int]),
    PlainSerializer(_listed, return_type=list[Any]),
]


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def adapter(kind: Any) -> TypeAdapter[Any]:
    """Return the reader and writer for a dataclass; made once per type, as that takes milliseconds."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def to_json(value: object) -> bytes:
    """Serialise a dataclass to JSON bytes."""
    return adapter(type(value)).dump_json(value, fallback=str)


def from_json(kind: type[Value], data: bytes | str) -> Value:
    """Rebuild a dataclass from `to_json` bytes; raises `pydantic.ValidationError` when it does not fit."""
    value: Value = adapter(kind).validate_json(data)
    return value


def pack(value: object) -> bytes:
    """Serialise and compress: what the store keeps of large values."""
    return zlib.compress(to_json(value), level=3)


def unpack(kind: type[Value], data: bytes) -> Value:
    """Undo `pack`."""
    return from_json(kind, zlib.decompress(data))
