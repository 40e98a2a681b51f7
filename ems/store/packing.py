"""Values to columns and back: instants, texts, packed samples, packed arrays. Pure."""

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from ems.codec import FloatArray, IntArray
from ems.readings import Quality, Sample, Unit

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
QUALITIES = (Quality.BAD, Quality.STALE, Quality.ESTIMATED, Quality.GOOD)
"""By code: the number grows with trust, so SQL can compare it."""
QUALITY_CODES = {quality: code for code, quality in enumerate(QUALITIES)}


def to_ms(at: datetime) -> int:
    """Return an aware instant as milliseconds since the epoch, rounded down; a naive one is a TypeError."""
    return (at - EPOCH) // MILLISECOND


def from_ms(at_ms: int) -> datetime:
    """Undo `to_ms`."""
    return EPOCH + at_ms * MILLISECOND


def number(value: float | None) -> float | None:
    """Return a value as the columns know it: not-a-number is absent."""
    return None if value is None or math.isnan(value) else float(value)


def text(value: str) -> str:
    """Return a text both databases take: devices may answer with NUL or half a character."""
    return value.replace("\0", "").encode("utf-8", "replace").decode()


@dataclass(frozen=True, slots=True)
class Layout:
    """What the values of a packed reading stand for, by position."""

    columns: tuple[tuple[str, str, str], ...]
    """Key, unit and source of each sample."""

    @property
    def id(self) -> int:
        """Return a number made from the content: the same layout has it everywhere (63 bits of SHA-256)."""
        return int.from_bytes(hashlib.sha256(self.to_json().encode()).digest()[:8]) >> 1

    def to_json(self) -> str:
        """Return the text the `layouts` table keeps."""
        return json.dumps(self.columns, ensure_ascii=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, body: str) -> "Layout":
        """Undo `to_json`."""
        return cls(tuple((key, unit, source) for key, unit, source in json.loads(body)))

    def index(self, key: str) -> int | None:
        """Return the position of a key."""
        return next((i for i, column in enumerate(self.columns) if column[0] == key), None)


def layout_of(samples: Mapping[str, Sample]) -> Layout:
    """Return the layout of a reading."""
    return Layout(tuple((key, sample.unit.value, sample.source) for key, sample in samples.items()))


def pack_samples(samples: Sequence[Sample], at_ms: int) -> bytes:
    """Pack values, ages and qualities, in the order of the layout: about 10 bytes a sample.

    The four runs are: values (f8, nan for none), measured_at - at (i8, ms), quality codes (u1), causes (JSON, by index).
    """
    n = len(samples)
    values = (math.nan if s.value is None else s.value for s in samples)
    ages = (to_ms(s.measured_at) - at_ms for s in samples)
    codes = bytes(QUALITY_CODES[s.quality] for s in samples)
    causes = {i: s.cause for i, s in enumerate(samples) if s.cause is not None}
    tail = json.dumps(causes, separators=(",", ":")).encode() if causes else b""
    return zlib.compress(struct.pack(f"<{n}d{n}q", *values, *ages) + codes + tail, level=1)


def unpack_samples(body: bytes, layout: Layout, at_ms: int) -> dict[str, Sample]:
    """Undo `pack_samples`."""
    raw = zlib.decompress(body)
    n = len(layout.columns)
    numbers = struct.unpack_from(f"<{n}d{n}q", raw)
    causes = json.loads(raw[17 * n :]) if len(raw) > 17 * n else {}
    return {
        key: Sample(
            value=None if math.isnan(numbers[i]) else numbers[i],
            unit=Unit(unit),
            measured_at=from_ms(at_ms + numbers[n + i]),
            quality=QUALITIES[raw[16 * n + i]],
            source=source,
            cause=causes.get(str(i)),
        )
        for i, (key, unit, source) in enumerate(layout.columns)
    }


def unpack_columns(body: bytes, n: int) -> tuple[FloatArray, IntArray, dict[int, str]]:
    """Return values (nan for none), quality codes, and causes by position, of the `n` samples of a packed reading."""
    raw = zlib.decompress(body)
    causes = json.loads(raw[17 * n :]) if len(raw) > 17 * n else {}
    return (
        np.frombuffer(raw, "<f8", n),
        np.frombuffer(raw, np.uint8, n, offset=16 * n).astype(np.int64),
        {int(position): cause for position, cause in causes.items()},
    )


def unpack_one(body: bytes, n: int, index: int, at_ms: int) -> tuple[float | None, Quality, datetime]:
    """Return value, quality and instant of one of the `n` samples of a packed reading."""
    raw = zlib.decompress(body)
    (value,) = struct.unpack_from("<d", raw, 8 * index)
    (age_ms,) = struct.unpack_from("<q", raw, 8 * (n + index))
    return None if math.isnan(value) else value, QUALITIES[raw[16 * n + index]], from_ms(at_ms + age_ms)


def pack_rows(rows: Sequence[FloatArray]) -> bytes:
    """Pack arrays of one length in single precision, bytes of equal weight side by side so that they compress."""
    single = np.stack([np.asarray(row, dtype="<f4") for row in rows])
    return zlib.compress(single.view(np.uint8).reshape(-1, 4).T.tobytes(), level=3)


def unpack_rows(body: bytes, n_rows: int) -> FloatArray:
    """Undo `pack_rows`; shape (n_rows, T)."""
    planes = np.frombuffer(zlib.decompress(body), dtype=np.uint8).reshape(4, -1)
    single = np.ascontiguousarray(planes.T).view("<f4")
    return single.reshape(n_rows, -1).astype(np.float64)
