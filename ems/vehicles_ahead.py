"""Vehicles: their past stays at the charger, and what those say of the next ones."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from ems.codec import FloatArray
from ems.outlook import VehicleOutlook
from ems.site import Site, VehicleAsset
from ems.state import VehicleState
from forecasting import Session, SiteContext, VehicleForecaster

LEVELS = (0.1, 0.5, 0.9)
LEAST_DAYS = 14
"""Days that must be known before anything is said."""
LEAST_STAYS = 5
KEPT_DAYS = 180
LOST_AFTER = timedelta(hours=2)
"""A gap in what the charger says that is longer than this ends a stay whose end nobody saw."""
LEAST_STAY = timedelta(minutes=5)


class VehiclesAhead:
    """What is known of every vehicle of a batch.

    Parameters
    ----------
    sites
        The batch.
    step_s, horizon
        Grid of what is expected.
    """

    def __init__(self, sites: Sequence[Site], *, step_s: int, horizon: int) -> None:
        self._step = timedelta(seconds=step_s)
        self._horizon = horizon
        self._known: dict[tuple[str, str], tuple[tuple[Session, ...], datetime]] = {}
        self._heard: dict[tuple[str, str], FloatArray] = {}
        self.wanted = tuple((site, vehicle) for site in sites for vehicle in site.vehicles)
        """Every vehicle with its site."""

    def known_until(self, site_id: str, vehicle: str) -> datetime | None:
        """Return the instant up to which a charger's words are known; None before the first."""
        heard = self._heard.get((site_id, vehicle))
        return None if heard is None else datetime.fromtimestamp(float(heard[0, -1]) + 1e-3, UTC)

    def hear(
        self, site_id: str, vehicle: str, at_s: FloatArray, plugged_in: FloatArray, drawn_kw: FloatArray
    ) -> None:
        """Take what a charger said after what is known already, see `stays_of`."""
        heard = np.stack([at_s, plugged_in, drawn_kw])
        before = self._heard.get((site_id, vehicle))
        if before is not None:
            heard = np.concatenate([before, heard], axis=1)
        heard = heard[:, heard[0] > heard[0, -1] - KEPT_DAYS * 86_400]
        self._heard[site_id, vehicle] = heard
        self.learn(
            site_id, vehicle, stays_of(*heard), known_from=datetime.fromtimestamp(float(heard[0, 0]), UTC)
        )

    def learn(self, site_id: str, vehicle: str, stays: Sequence[Session], *, known_from: datetime) -> None:
        """Remember the stays of a vehicle, and from when on all of them are known."""
        self._known[site_id, vehicle] = (tuple(stays), known_from)

    def expect(self, site: Site, here: Mapping[str, VehicleState], at: datetime) -> dict[str, VehicleOutlook]:
        """Return what the vehicles of a site will probably do; those too little is known of are left out."""
        found = {}
        for vehicle in site.vehicles:
            stays, known_from = self._known.get((site.id, vehicle.name), ((), at))
            if at - known_from >= timedelta(days=LEAST_DAYS) and len(stays) >= LEAST_STAYS:
                found[vehicle.name] = self._expect(
                    site, vehicle, stays, known_from, here.get(vehicle.name), at
                )
        return found

    def _expect(
        self,
        site: Site,
        vehicle: VehicleAsset,
        stays: Sequence[Session],
        known_from: datetime,
        here: VehicleState | None,
        at: datetime,
    ) -> VehicleOutlook:
        over = [stay for stay in stays if stay.plug_out_at is not None and stay.plug_out_at <= at]
        if here is not None and here.plugged_in and here.arrived_at is not None:
            since = max(here.arrived_at, over[-1].plug_out_at or here.arrived_at) if over else here.arrived_at
            over.append(Session(plug_in_at=since, plug_out_at=None, energy_kwh=float("nan")))
        context = SiteContext(time_zone=site.time_zone, country=site.country)
        model = VehicleForecaster(context, step=self._step, charge_kw=vehicle.charge_limit_kw)
        told = model.fit(over, known_from=known_from).predict(at, self._horizon, LEVELS)
        return VehicleOutlook(
            plugged_in_prob=told.plugged_in_prob,
            charging_kw=told.charging_kw,
            arrival_h=told.arrival_h,
            departure_h=told.departure_h,
            energy_kwh=told.energy_kwh,
            similar_days=told.similar_days,
        )


def stays_of(at_s: FloatArray, plugged_in: FloatArray, drawn_kw: FloatArray) -> list[Session]:
    """Return the stays in what a charger said.

    Parameters
    ----------
    at_s
        Instants [epoch s], rising, shape (N,).
    plugged_in
        Above one half: a vehicle is there; nan is not known, shape (N,).
    drawn_kw
        What it drew [kW], shape (N,); nan is not known.
    """
    known = np.isfinite(plugged_in)
    at_s, there = at_s[known], plugged_in[known] > 0.5
    drawn_kw = np.nan_to_num(np.maximum(drawn_kw[known], 0.0))
    if not len(at_s):
        return []
    lost_s = LOST_AFTER.total_seconds()
    span_s = np.minimum(np.diff(at_s, append=at_s[-1]), lost_s)
    energy_kwh = np.concatenate([[0.0], np.cumsum(drawn_kw * span_s / 3600.0)])
    broken = np.concatenate([[True], np.diff(at_s) > lost_s])
    begins = there & (broken | ~np.concatenate([[False], there[:-1]]))
    follows_end = np.concatenate([begins[1:] | ~there[1:] | broken[1:], [True]])
    stays = []
    for first, last in zip(np.flatnonzero(begins), np.flatnonzero(there & follows_end), strict=True):
        end_s = at_s[last] + span_s[last]
        if end_s - at_s[first] < LEAST_STAY.total_seconds():
            continue
        still_there = last == len(at_s) - 1
        stays.append(
            Session(
                plug_in_at=datetime.fromtimestamp(at_s[first], UTC),
                plug_out_at=None if still_there else datetime.fromtimestamp(end_s, UTC),
                energy_kwh=float(energy_kwh[last + 1] - energy_kwh[first]),
            )
        )
    return stays
