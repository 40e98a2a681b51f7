"""Sites with a random choice of everything: the same seed, the same site."""

from __future__ import annotations

import numpy as np

from optimizer import (
    Asset,
    Battery,
    Boiler,
    Building,
    CapacityLimit,
    ChangeCost,
    DemandCharge,
    DemandResponse,
    DispatchProblem,
    FlexibleLoad,
    Generator,
    GridConnection,
    HeatDemand,
    HeatPump,
    HeatStore,
    HybridInverter,
    Prices,
    ProgressiveTariff,
    Pv,
    SheddableLoad,
    ShiftableRun,
    TariffBlock,
    Vehicle,
)


def random_site(seed: int, n: int = 24) -> DispatchProblem:
    """A site with a random choice of everything, edge cases included on purpose."""
    rng = np.random.default_rng(seed)

    def chance(p: float) -> bool:
        return bool(rng.random() < p)

    def pick(*values: float) -> float:
        return float(rng.choice(values))

    price = {
        0: rng.uniform(-0.2, 0.5, n),
        1: np.full(n, 0.25),
        2: np.full(n, -0.1),
        3: np.where(np.arange(n) % 24 < 7, 0.1, 0.3),
        4: np.zeros(n),
    }[int(rng.integers(5))]
    hours = {0: np.full(n, 0.25), 1: np.full(n, 1.0), 2: np.repeat([0.25, 1.0], [n // 2, n - n // 2])}[
        int(rng.integers(3))
    ]
    assets: list[Asset] = []
    if chance(0.8):
        capacity = pick(0.0, 5.0, 10.0)
        assets.append(
            Battery(
                name="battery",
                capacity_kwh=capacity,
                stored_kwh=capacity * pick(0.0, 0.02, 0.5, 1.0, 1.05),
                charge_limit_kw=pick(0.0, 2.5, 5.0),
                discharge_limit_kw=pick(0.0, 2.5, 5.0),
                charge_efficiency_frac=pick(0.9, 1.0),
                discharge_efficiency_frac=pick(0.9, 1.0),
                standby_loss_frac_per_h=pick(0.0, 0.002),
                band_min_kwh=capacity * pick(0.0, 0.1),
                band_max_kwh=None if chance(0.5) else capacity * 0.9,
                wear_per_kwh=pick(0.0, 0.03),
            )
        )
    if chance(0.4):
        assets += [
            HybridInverter(name="hybrid", rating_kw=pick(2.0, 5.0), draws_from_bus=chance(0.5)),
            Pv(name="roof", available_kw=np.maximum(0.0, rng.normal(2.0, 2.0, n)), inverter="hybrid"),
            Battery(
                name="dc",
                capacity_kwh=8.0,
                stored_kwh=4.0,
                charge_limit_kw=4.0,
                discharge_limit_kw=4.0,
                inverter="hybrid",
            ),
        ]
    if chance(0.6):
        assets.append(
            Pv(name="pv", available_kw=np.maximum(0.0, rng.normal(1.0, 2.0, n)), curtailable=chance(0.5))
        )
    if chance(0.4):
        arrival = float(rng.uniform(-4, n))
        assets.append(
            Vehicle(
                name="car",
                capacity_kwh=40.0,
                stored_kwh=pick(2.0, 20.0),
                wished_kwh=pick(0.0, 25.0, 40.0),
                arrival=arrival,
                departure=arrival + float(rng.uniform(0, n)),
                charge_limit_kw=7.0,
                min_charge_kw=pick(0.0, 1.4),
                discharge_limit_kw=pick(0.0, 5.0),
                floor_kwh=10.0,
            )
        )
    if chance(0.3):
        assets.append(
            ShiftableRun(name="run", profile_kw=np.array([2.0, 0.5, 1.0]), step_h=0.5, earliest=2.0)
        )
    if chance(0.3):
        assets.append(FlexibleLoad(name="pump", energy_kwh=2.0, limit_kw=1.5, least_kw=pick(0.0, 1.5)))
    if chance(0.3):
        node = "house"
        outdoor = rng.normal(3.0, 4.0, n)
        assets += [
            HeatPump(name="hp", heat_node=node, limit_kw=3.0, cop=3.0, least_kw=pick(0.0, 0.8)),
            Building(
                name="house",
                heat_node=node,
                loss_kw_per_k=0.2,
                capacity_kwh_per_k=6.0,
                indoor_degc=pick(15.0, 21.0, 26.0),
                outdoor_degc=outdoor,
            ),
        ]
        if chance(0.5):
            assets += [
                HeatStore(
                    name="tank",
                    heat_node=node,
                    capacity_kwh=6.0,
                    stored_kwh=pick(0.0, 3.0),
                    charge_limit_kw=6.0,
                    discharge_limit_kw=6.0,
                ),
                HeatDemand(name="tap", heat_node=node, demand_kw=np.maximum(0.0, rng.normal(0.3, 1.0, n))),
                Boiler(name="boiler", heat_node=node, limit_kw=pick(0.0, 5.0), fuel_per_kwh=0.1),
            ]
    if chance(0.2):
        assets.append(
            Generator(
                name="cell",
                limit_kw=3.0,
                least_kw=1.0,
                fuel_per_kwh=0.15,
                start_cost=0.1,
                ramp_kw_per_h=pick(2.0, np.inf),
                min_up_h=1.0,
                min_down_h=1.0,
                power_now_kw=pick(0.0, 2.0),
                in_state_h=pick(0.1, 10.0),
            )
        )
    if chance(0.2):
        assets.append(
            SheddableLoad(name="shed", demand_kw=rng.uniform(0, 1, n), priority_class=int(rng.integers(3)))
        )
    change = ()
    if any(asset.name == "battery" for asset in assets) and chance(0.3):
        change = (ChangeCost(asset="battery", net_consumption_kw=rng.uniform(-1, 1, n), price_per_kwh=0.002),)
    return DispatchProblem(
        site_id=f"random-{seed}",
        hours=hours,
        load_kw=np.maximum(-1.0, rng.normal(1.0, 1.5, n)),
        prices=Prices(
            import_per_kwh=price,
            export_per_kwh=pick(0.0, 0.08) if chance(0.7) else price - 0.02,
            co2_kg_per_kwh=0.4,
            co2_per_kg=pick(0.0, 0.05),
        ),
        grid=GridConnection(
            import_limit_kw=pick(np.inf, 3.0),
            export_limit_kw=pick(np.inf, 2.0, 0.0),
            import_rating_kw=np.where(rng.random(n) < 0.1, 0.0, 20.0) if chance(0.2) else np.inf,
        ),
        assets=tuple(assets),
        tariffs=()
        if chance(0.8)
        else (
            ProgressiveTariff(
                name="month",
                used_kwh=pick(0.0, 290.0),
                blocks=(
                    TariffBlock(up_to_kwh=300.0, price_per_kwh=0.0),
                    TariffBlock(up_to_kwh=np.inf, price_per_kwh=0.1),
                ),
            ),
        ),
        demand_charges=()
        if chance(0.8)
        else (DemandCharge(name="peak", price_per_kw=2.0, floor_kw=pick(0.0, 4.0, 50.0)),),
        demand_responses=()
        if chance(0.8)
        else (
            DemandResponse(
                name="dr",
                baseline_kw=1.5,
                during=(np.arange(n) // 4 == 2).astype(float),
                reward_per_kwh=0.5,
                cap_kwh=pick(1.0, np.inf),
                committed_kwh=0.5,
                penalty_per_kwh=pick(0.0, 0.3),
            ),
        ),
        capacity_limits=()
        if chance(0.8)
        else (CapacityLimit(name="cap", import_limit_kw=np.where(np.arange(n) // 4 == 1, 1.0, np.inf)),),
        change_costs=change,
    )
