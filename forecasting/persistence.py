"""Fitted models as bytes: plain arrays and a JSON header in a zip, never code.

What is stored is what was learned, not the readings: a restored model predicts with `recent=`. Loading
refuses anything that is not exactly such a file (`UnsafeModel`), so a store may hold models from elsewhere.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecasting.bestof import Choice
from forecasting.candidates import Candidate, contexts_of
from forecasting.errors import NotFitted, UnsafeModel
from forecasting.load import LoadForecaster
from forecasting.plant import Plants
from forecasting.price import PriceForecaster, RecentPrices
from forecasting.recentdays import RecentDays
from forecasting.ridgeseries import RidgeSeries
from forecasting.slotmodel import SlotModel
from forecasting.solar import RecentIndex, RidgeIndex, SolarForecaster
from forecasting.types import BoolArray, History, SiteContext, Weather

FORMAT = 2
_MAX_UNPACKED_BYTES = 512_000_000
_HALF = ("nodes", "table", "table_")

Fitted = LoadForecaster | SolarForecaster | PriceForecaster
Arrays = dict[str, NDArray[Any]]
_KINDS: dict[str, type[Fitted]] = {
    "load": LoadForecaster,
    "solar": SolarForecaster,
    "price": PriceForecaster,
}


def dump_model(model: Fitted) -> bytes:
    """Pack a fitted model."""
    if model.choice_ is None:
        raise NotFitted(f"{model.name}: nothing learned yet, nothing to store")
    choice = model.choice_
    arrays: Arrays = {
        "choice.chosen": choice.chosen,
        "choice.pinball": choice.pinball,
        "choice.known_days": choice.known_days,
    }
    if choice.missed_frac is not None:
        arrays["choice.missed_frac"] = choice.missed_frac
    if choice.drifting is not None:
        arrays["choice.drifting"] = choice.drifting
    if isinstance(model, LoadForecaster):
        arrays["floor_kw"] = model.floor_kw_
    for index, candidate in enumerate(model.candidates_):
        for key, array in _state(candidate).items():
            arrays[f"{index}.{key}"] = array
    header = {
        "format": FORMAT,
        "kind": model.name,
        "sites": len(choice.chosen),
        "measured_at": None if choice.measured_at is None else choice.measured_at.isoformat(),
    }
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    return packed.getvalue()


def load_model(data: bytes, context: SiteContext | Sequence[SiteContext]) -> Fitted:
    """Unpack a model for the sites it was fitted on; anything doubtful is `UnsafeModel`."""
    arrays = _unzip(data)
    header = _header(arrays)
    kind = _KINDS.get(str(header.get("kind")))
    if kind is None or header.get("format") != FORMAT:
        raise UnsafeModel(f"kind {header.get('kind')!r}, format {header.get('format')!r}: not one of ours")
    try:
        sites = int(header["sites"])
        contexts = contexts_of(context, sites)
        model = kind(context)
        model.candidates_ = _candidates(header["kind"], contexts)
        for index, candidate in enumerate(model.candidates_):
            own = {key[2:]: array for key, array in arrays.items() if key.startswith(f"{index}.")}
            _restore(candidate, own, contexts, arrays["choice.chosen"] == index)
        told = header.get("measured_at")
        model.choice_ = Choice(
            chosen=arrays["choice.chosen"].astype(np.int64),
            pinball=arrays["choice.pinball"],
            known_days=arrays["choice.known_days"],
            measured_at=None if told is None else datetime.fromisoformat(told),
            missed_frac=arrays.get("choice.missed_frac"),
            drifting=arrays["choice.drifting"].astype(np.bool_) if "choice.drifting" in arrays else None,
        )
        if isinstance(model, LoadForecaster):
            model.floor_kw_ = arrays["floor_kw"]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise UnsafeModel(f"damaged: {type(error).__name__} {error}") from error
    if (
        model.choice_.chosen.shape != (sites,)
        or not np.isin(model.choice_.chosen, np.arange(len(model.candidates_))).all()
        or (model.choice_.drifting is not None and model.choice_.drifting.shape != (sites,))
    ):
        raise UnsafeModel("damaged: the choice does not fit the sites")
    return model


def train(
    kind: str,
    context: SiteContext | Sequence[SiteContext],
    history: History,
    weather: Weather | None = None,
    previous: bytes | None = None,
    drifting: BoolArray | None = None,
) -> bytes:
    """Fit and pack: a plain function of plain values, to be run behind any `concurrent.futures` executor.

    Parameters
    ----------
    kind : "load", "solar" or "price"
    previous : the model in use, so that the best-of keeps its incumbent
    drifting : (S,) sites that have changed their ways, or None
    """
    model = _KINDS[kind](context) if previous is None else load_model(previous, context)
    if model.choice_ is not None and len(model.choice_.chosen) != history.n_sites:
        model = _KINDS[kind](context)
    if isinstance(model, PriceForecaster):
        return dump_model(model.fit(history, weather=weather))
    return dump_model(model.fit(history, weather=weather, drifting=drifting))


def _candidates(kind: str, contexts: Sequence[SiteContext]) -> list[Candidate]:
    calendar = LoadForecaster.calendar_of(contexts)
    match kind:
        case "load":
            return [RecentDays(contexts), RidgeSeries("load-ridge", calendar)]
        case "solar":
            return [RecentIndex(contexts), RidgeIndex(contexts)]
        case _:
            return [RecentPrices(calendar.zone), RidgeSeries("price-ridge", calendar)]


def _state(candidate: Candidate) -> Arrays:
    """What a candidate learned, by name; empty if it was not fitted."""
    found: Arrays = {}
    match candidate:
        case RecentDays(table_=table) | RecentPrices(table_=table) if table is not None:
            found["table_"] = table
        case RecentIndex(plants_=plants) if plants is not None:
            found |= {"table_": candidate.table_, **_pack_plants(plants)}
        case RidgeSeries(model_=model) if model is not None:
            found |= {"scale_": candidate.scale_, "floor_": candidate.floor_, **_pack("model", model)}
            found["warm_"] = np.array([candidate.warm_])
        case RidgeIndex(plants_=plants, plain_=plain) if plants is not None and plain is not None:
            found |= {**_pack_plants(plants), **_pack("plain", plain)}
            if candidate.guided_ is not None:
                found |= _pack("guided", candidate.guided_)
        case _:
            pass
    return {
        key: array.astype(np.float32) if key.split(".")[-1] in _HALF else array
        for key, array in found.items()
    }


def _restore(
    candidate: Candidate, arrays: Arrays, contexts: Sequence[SiteContext], serves: BoolArray
) -> None:
    """Put back what `_state` took; `serves` are the sites, (S,), that are predicted by it."""
    if not arrays:
        return
    match candidate:
        case RecentDays() | RecentPrices():
            candidate.table_ = arrays["table_"].astype(np.float64)
        case RecentIndex():
            candidate.plants_ = _unpack_plants(arrays, contexts)
            candidate.table_ = arrays["table_"].astype(np.float64)
        case RidgeSeries():
            candidate.scale_, candidate.floor_ = arrays["scale_"], arrays["floor_"]
            candidate.warm_ = bool(arrays["warm_"][0])
            candidate.model_ = _unpack("model", arrays, serves)
        case RidgeIndex():
            candidate.plants_ = _unpack_plants(arrays, contexts)
            candidate.plain_ = _unpack("plain", arrays, serves)
            if "guided.table" in arrays:
                candidate.guided_ = _unpack("guided", arrays, serves)
        case _:
            raise UnsafeModel(f"{candidate.name}: cannot be restored")


def _pack(prefix: str, model: SlotModel) -> Arrays:
    return {f"{prefix}.{field.name}": getattr(model, field.name) for field in fields(model)}


def _unpack(prefix: str, arrays: Mapping[str, NDArray[Any]], serves: BoolArray) -> SlotModel:
    found = {field.name: arrays[f"{prefix}.{field.name}"].astype(np.float64) for field in fields(SlotModel)}
    # a site without a reading leaves no number, and must not cost the others their model
    if not all(np.isfinite(array[serves]).all() for array in found.values()):
        raise ValueError(f"{prefix} holds something that is not a number")
    return SlotModel(**found)


def _pack_plants(plants: Plants) -> Arrays:
    widest = max(len(mix) for mix in plants.mixes)
    mixes = np.full((len(plants.mixes), widest), np.nan)
    for row, mix in enumerate(plants.mixes):
        mixes[row, : len(mix)] = mix
    return {"plants.mixes": mixes, "plants.cap_kw": plants.cap_kw}


def _unpack_plants(arrays: Mapping[str, NDArray[Any]], contexts: Sequence[SiteContext]) -> Plants:
    mixes = tuple(row[np.isfinite(row)] for row in arrays["plants.mixes"])
    if len(mixes) != len(contexts):
        raise ValueError(f"{len(mixes)} plants for {len(contexts)} sites")
    return Plants(contexts=tuple(contexts), mixes=mixes, cap_kw=arrays["plants.cap_kw"])


def _unzip(data: bytes) -> Arrays:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _MAX_UNPACKED_BYTES:
            raise UnsafeModel(f"unpacks to {size} bytes, more than {_MAX_UNPACKED_BYTES}")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        raise UnsafeModel(f"not a model file: {type(error).__name__} {error}") from error


def _header(arrays: Arrays) -> dict[str, Any]:
    try:
        header = json.loads(bytes(arrays["header"].astype(np.uint8)))
    except (KeyError, ValueError) as error:
        raise UnsafeModel(f"no header: {type(error).__name__} {error}") from error
    if not isinstance(header, dict):
        raise UnsafeModel("the header is not an object")
    return header
