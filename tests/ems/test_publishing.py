"""Requests to devices: journalled first, one after the other within a device, every outcome told."""

from datetime import timedelta

import pytest

from drivers import Applied, Clamped, Receipt, Refused, Unverified
from ems.errors import UnknownAsset
from ems.publishing import DeliveryOutcome, publish
from ems.setpoints import Course, Setpoint, SetpointSource, derive_setpoints
from tests.ems.made import AT, STEP, home, home_with_car


class FakeDevice:
    """Notes what it is told; answers as it was set to."""

    def __init__(self, said: list[tuple], receipt: Receipt | None = None) -> None:
        self.said = said
        self.receipt = receipt

    def _answer(self, control: str, value: float | None, valid_s: float | None) -> Receipt:
        self.said.append((control, value, valid_s))
        return self.receipt or Applied(control=control, asked=value, value=value, at=AT, valid_until=None)

    async def write_battery_power(self, net_consumption_kw: float, *, valid_s: float) -> Receipt:
        return self._answer("battery", net_consumption_kw, valid_s)

    async def limit_generation(self, limit_kw: float | None, *, valid_s: float) -> Receipt:
        return self._answer("generation", limit_kw, valid_s)

    async def limit_charge(self, limit_kw: float, *, valid_s: float) -> Receipt:
        return self._answer("charge", limit_kw, valid_s)

    async def release(self) -> Receipt:
        return self._answer("release", None, None)


SITE = home_with_car()


def requests(course: Course | None) -> tuple[Setpoint, ...]:
    return derive_setpoints(
        SITE, course, plan=None, at=AT, valid_until=AT + 2 * STEP, source=SetpointSource.PLAN
    )


async def published(
    setpoints: tuple[Setpoint, ...], receipt: Receipt | None = None, late_s: float | None = None
) -> tuple[list[tuple], tuple]:
    said: list[tuple] = []
    device = FakeDevice(said, receipt)

    async def journal(kept) -> None:
        said.append(("journal", len(kept), None))

    devices = {(SITE.id, name): device for name in SITE.devices}
    now = None if late_s is None else lambda: AT + timedelta(seconds=late_s)
    return said, await publish(devices, {SITE.id: SITE}, setpoints, journal=journal, now=now)  # type: ignore[arg-type]


async def test_the_journal_comes_first_and_each_quantity_reaches_its_control() -> None:
    course = Course(battery_kw={"store": -1.5}, generation_limit_kw={"roof": 2.0}, vehicle_kw={"car": 3.0})
    said, deliveries = await published(requests(course))
    assert said == [
        ("journal", 3, None), ("battery", -1.5, 1800.0), ("generation", 2.0, 1800.0), ("charge", 3.0, 1800.0),
    ]  # fmt: skip
    assert {d.outcome for d in deliveries} == {DeliveryOutcome.APPLIED}
    assert {d.asset: d.held_kw for d in deliveries} == {"store": -1.5, "roof": 2.0, "car": 3.0}


async def test_giving_back_releases_storage_lifts_caps_and_lets_the_vehicle_charge_a_little() -> None:
    said, _ = await published(requests(None))
    assert said[1:] == [("release", None, None), ("generation", None, 1800.0), ("charge", 1.4, 1800.0)]


async def test_nothing_to_say_is_not_even_journalled() -> None:
    assert await published(()) == ([], ())


@pytest.mark.parametrize(
    ("receipt", "outcome", "held_kw", "written", "detail"),
    [
        pytest.param(
            Clamped(control="c", asked=9.0, value=4.0, at=AT, valid_until=None, limit="WMax"),
            DeliveryOutcome.CLAMPED, 4.0, True, "WMax", id="clamped",
        ),
        pytest.param(
            Refused(control="c", asked=1.0, at=AT, rule="budget", reason="too many writes"),
            DeliveryOutcome.REFUSED, None, False, "budget: too many writes", id="refused",
        ),
        pytest.param(
            Unverified(control="c", asked=1.0, at=AT, reason="reads 3 kW"),
            DeliveryOutcome.UNVERIFIED, None, True, "reads 3 kW", id="unverified",
        ),
        pytest.param(
            Applied(control="c", asked=1.0, value=1.0, at=AT, valid_until=AT + timedelta(hours=1), written=False),
            DeliveryOutcome.APPLIED, 1.0, False, "", id="held already",
        ),
    ],
)  # fmt: skip
async def test_every_outcome_is_told_as_it_was(
    receipt: Receipt, outcome: DeliveryOutcome, held_kw: float | None, written: bool, detail: str
) -> None:
    setpoints = requests(None)[:1]
    _, (delivery,) = await published(setpoints, receipt)
    assert delivery.setpoint_id == setpoints[0].id
    assert (delivery.outcome, delivery.held_kw, delivery.written, delivery.detail) == (
        outcome, held_kw, written, detail,
    )  # fmt: skip


async def test_a_request_that_cannot_be_kept_is_not_sent() -> None:
    said: list[tuple] = []

    async def full(_) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        await publish(
            {(SITE.id, name): FakeDevice(said) for name in SITE.devices},  # type: ignore[misc]
            {SITE.id: SITE}, requests(None), journal=full,
        )  # fmt: skip
    assert said == []


async def test_an_asset_the_site_does_not_have_is_refused_by_name() -> None:
    async def journal(_) -> None: ...

    with pytest.raises(UnknownAsset, match="home-01 has no asset 'car'"):
        await publish({}, {SITE.id: home()}, requests(None)[-1:], journal=journal)


@pytest.mark.parametrize(
    ("late_s", "valid_s"),
    [
        pytest.param(0.0, 1800.0, id="at once: all of its validity"),
        pytest.param(400.0, 1400.0, id="late: what is left of it"),
        pytest.param(-60.0, 1800.0, id="a clock that was set back makes it no longer"),
    ],
)
async def test_a_device_never_holds_a_setpoint_beyond_its_validity(late_s: float, valid_s: float) -> None:
    said, _ = await published(requests(CHARGE), late_s=late_s)
    assert {valid for control, _, valid in said if control in ("battery", "charge")} == {valid_s}


async def test_a_setpoint_whose_time_has_passed_is_not_written_but_a_release_is() -> None:
    said, deliveries = await published(requests(CHARGE), late_s=1801.0)
    assert [control for control, *_ in said] == ["journal", "generation"], (
        "only lifting a cap is always right"
    )
    assert [d.outcome for d in deliveries if d.asset in ("store", "car")] == [DeliveryOutcome.REFUSED] * 2
    assert all(d.detail.startswith("expired: ") for d in deliveries if d.asset in ("store", "car"))
    said, _ = await published(requests(None), late_s=1801.0)
    assert "release" in [control for control, *_ in said]


CHARGE = Course(battery_kw={"store": 2.0}, generation_limit_kw={"roof": None}, vehicle_kw={"car": 5.0})
