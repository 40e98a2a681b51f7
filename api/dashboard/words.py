"""Numbers, times and reasons in a person's own words. Pure; one `Words` per language and site."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from gettext import NullTranslations
from zoneinfo import ZoneInfo

from babel.dates import format_date
from babel.numbers import format_currency, format_decimal, format_percent, get_currency_precision

from api.dashboard.languages import translations
from ems.plan import Reason
from ems.queries import Control, Day, SiteNow
from ems.site import Site

SMALL_KW = 0.05
"""Less than this is shown as 0.0 and is no flow worth a word [kW]."""


def N_(text: str) -> str:  # noqa: N802 - the name gettext tools look for
    """Mark a text for the catalogues; it is translated where it is used."""
    return text


@dataclass(frozen=True, slots=True)
class Sentence:
    """A reason in words: without, and with, the instant it is done for."""

    plain: str
    """When no later instant is known."""
    later: str | None = None
    """With `%(time)s` for that instant."""


BATTERY: Mapping[str, Sentence] = {
    "store_surplus": Sentence(
        N_("The sun gives more than your home needs, so the battery stores the rest."),
        N_("The sun gives more than your home needs, so the battery stores the rest for %(time)s."),
    ),
    "store_for_later": Sentence(
        N_("Power is cheap now, so the battery charges for later."),
        N_("Power is cheaper now than at %(time)s, so the battery charges for then."),
    ),
    "serve_load": Sentence(N_("The battery runs your home, so you buy less from the grid.")),
    "sell_now": Sentence(N_("Selling pays well now, so the battery sends power to the grid.")),
    "keep_for_later": Sentence(
        N_("The battery waits: its energy will be worth more later."),
        N_("The battery waits: its energy will be worth more at %(time)s."),
    ),
    "full": Sentence(N_("The battery is full.")),
    "empty": Sentence(N_("The battery is down to its reserve, so the grid helps out.")),
    "ready_by": Sentence(
        N_("The battery charges so that it is ready in time."),
        N_("The battery charges so that it is ready by %(time)s."),
    ),
    "negative_price": Sentence(
        N_("The power price is below zero right now: taking power pays, giving it does not.")
    ),
    "export_limit": Sentence(
        N_("The grid cannot take all of your solar power right now, so a part is held back.")
    ),
    "rule": Sentence(
        N_("There is no fresh plan, so the battery simply stores spare sun and runs your home with it.")
    ),
    "no_gain": Sentence(N_("Using the battery now would bring nothing, so it rests.")),
}
"""Reasons of batteries and solar modules, by code."""

VEHICLE: Mapping[str, Sentence] = {
    **BATTERY,
    "store_surplus": Sentence(
        N_("The sun gives more than your home needs, so the car charges with the rest.")
    ),
    "store_for_later": Sentence(N_("Power is cheap now, so the car charges.")),
    "serve_load": Sentence(N_("The car gives power to your home, so you buy less from the grid.")),
    "keep_for_later": Sentence(
        N_("The car waits for cheaper power."), N_("The car waits for cheaper power at %(time)s.")
    ),
    "full": Sentence(N_("The car has what it needs.")),
    "ready_by": Sentence(
        N_("The car charges so that it is ready in time."),
        N_("The car charges so that it is ready by %(time)s."),
    ),
    "negative_price": Sentence(N_("The price is below zero right now, so the car charges.")),
    "rule": Sentence(N_("There is no fresh plan, so the car charges at once.")),
    "no_gain": Sentence(N_("Charging the car now would bring nothing, so it waits.")),
}
"""Reasons of vehicles."""

LOAD: Mapping[str, Sentence] = {
    "outage": Sentence(
        N_("The grid is down, so this is switched off and its energy kept for what matters most.")
    ),
}
"""Reasons of loads behind switches."""

UNKNOWN_REASON = N_("This is part of today's plan.")


@dataclass(frozen=True, slots=True)
class Words:
    """How one page speaks."""

    language: str
    """`ko` or `en`."""
    zone: str
    """IANA zone of the site."""
    currency: str
    """ISO 4217 code of its money."""
    now_at: datetime
    """The present (aware UTC)."""

    @property
    def catalogue(self) -> NullTranslations:
        """The language's texts."""
        return translations(self.language)

    def say(self, text: str, **values: object) -> str:
        """Return a text in the page's language."""
        return self.catalogue.gettext(text) % values if values else self.catalogue.gettext(text)

    def kw(self, value: float | None) -> str:
        """Return a power, e.g. `1.4 kW`."""
        return self._number(value, "kW", "#,##0.0")

    def kwh(self, value: float | None) -> str:
        """Return an energy, e.g. `12.3 kWh`."""
        return self._number(value, "kWh", "#,##0.0")

    def share(self, frac: float | None) -> str:
        """Return a share, e.g. `62 %`."""
        return (
            self._unknown() if frac is None else format_percent(frac, format="#,##0%", locale=self.language)
        )

    def money(self, amount: float | None) -> str:
        """Return an amount in the site's currency, with the decimals that currency has."""
        if amount is None:
            return self._unknown()
        rounded = round(amount, get_currency_precision(self.currency)) + 0.0
        return format_currency(rounded, self.currency, locale=self.language)

    def price(self, per_kwh: float | None) -> str:
        """Return a price per kWh; prices need more digits than amounts."""
        if per_kwh is None:
            return self._unknown()
        digits = 0 if abs(per_kwh) >= 20 else 2 if abs(per_kwh) >= 1 else 3
        pattern = "¤#,##0" + ("." + "0" * digits if digits else "")
        shown = format_currency(
            per_kwh + 0.0, self.currency, pattern, locale=self.language, currency_digits=False
        )
        return f"{shown}/kWh"

    def time(self, at: datetime | None) -> str:
        """Return a local time of day, with the day when it is not today's."""
        if at is None:
            return self._unknown()
        local, today = at.astimezone(ZoneInfo(self.zone)), self._today
        clock = f"{local:%H:%M}"
        if local.date() == today:
            return clock
        if local.date() == today + timedelta(days=1):
            return self.say(N_("%(clock)s tomorrow"), clock=clock)
        if local.date() == today - timedelta(days=1):
            return self.say(N_("%(clock)s yesterday"), clock=clock)
        return self.say(N_("%(clock)s on %(day)s"), clock=clock, day=self.day(local.date()))

    def clock(self, at: datetime) -> str:
        """Return a local time of day and nothing else."""
        return f"{at.astimezone(ZoneInfo(self.zone)):%H:%M}"

    def day(self, day: date) -> str:
        """Return a calendar day, e.g. `Wed 3 June` or `6월 3일 (수)`."""
        pattern = "M월 d일 (E)" if self.language == "ko" else "EEE d MMMM"
        return format_date(day, format=pattern, locale=self.language)

    def count(self, number: float, digits: int = 0) -> str:
        """Return a plain number."""
        return format_decimal(
            number, format="#,##0" + ("." + "0" * digits if digits else ""), locale=self.language
        )

    def reason(self, reason: Reason, site: Site) -> str:
        """Return why an asset does what it does, in one sentence."""
        asset = site.asset(reason.asset)
        known = {"vehicle": VEHICLE, "sheddable": LOAD}.get("" if asset is None else asset.kind, BATTERY)
        found = known.get(reason.code)
        if found is None:
            return self.say(UNKNOWN_REASON)
        if found.later is not None and reason.later_at is not None:
            return self.say(found.later, time=self.time(reason.later_at))
        return self.say(found.plain)

    def headline(self, site: Site, now: SiteNow) -> str:
        """Return the one sentence a household reads first."""
        powers = now.powers
        if now.lost or powers.net_import_kw is None:
            return self.say(N_("We cannot see your home right now, because the meter does not answer."))
        text = _flow(
            import_kw=powers.net_import_kw,
            sun_kw=powers.total_pv_kw if site.pvs else 0.0,
            battery_kw=powers.total_battery_kw if site.batteries else 0.0,
        )
        return self.say(text)

    def pause_until(self, control: Control) -> str | None:
        """Return until when control is paused; None while it is not, or until somebody resumes it."""
        if control.pause is None or control.pause.until_at - self.now_at > timedelta(days=60):
            return None
        return self.time(control.pause.until_at)

    def coverage(self, day: Day) -> str | None:
        """Return what is missing from a day's figures; None when nothing is."""
        if day.expected == 0:
            return self.say(N_("The day has only just begun."))
        if day.known == 0:
            return self.say(N_("Nothing is known of this day."))
        if not day.whole:
            return self.say(
                N_("Covers %(share)s of the time; the meter did not answer for the rest."),
                share=self.share(day.known / day.expected),
            )
        if day.estimated == day.known:
            return self.say(N_("All of this is estimated."))
        if day.estimated:
            return self.say(
                N_("%(share)s of this is estimated."), share=self.share(day.estimated / day.known)
            )
        return None

    @property
    def _today(self) -> date:
        return self.now_at.astimezone(ZoneInfo(self.zone)).date()

    def _unknown(self) -> str:
        return self.say(N_("unknown"))

    def _number(self, value: float | None, unit: str, pattern: str) -> str:
        if value is None:
            return self._unknown()
        rounded = round(value, 1) + 0.0
        return f"{format_decimal(rounded, format=pattern, locale=self.language)}\N{NO-BREAK SPACE}{unit}"


def _flow(*, import_kw: float, sun_kw: float | None, battery_kw: float | None) -> str:
    """Return the sentence for where power comes from and goes to; unknown parts are not spoken of."""
    sun = (sun_kw or 0.0) > SMALL_KW
    storing = (battery_kw or 0.0) > SMALL_KW
    giving = (battery_kw or 0.0) < -SMALL_KW
    buying = import_kw > SMALL_KW
    selling = import_kw < -SMALL_KW
    rules: tuple[tuple[bool, str], ...] = (
        (sun and storing and selling, N_("The sun runs your home, fills the battery and feeds the grid.")),
        (sun and storing and not buying, N_("The sun runs your home and fills the battery.")),
        (storing and buying and sun, N_("Sun and grid run your home, and the battery charges for later.")),
        (storing and buying, N_("Your home runs on grid power, and the battery charges for later.")),
        (giving and selling, N_("Your battery runs your home and earns money from the grid.")),
        (giving and buying, N_("Battery and grid run your home together.")),
        (giving and sun, N_("Sun and battery run your home.")),
        (giving, N_("Your battery runs your home.")),
        (sun and selling, N_("The sun runs your home, and the rest goes to the grid.")),
        (sun and buying, N_("Sun and grid run your home together.")),
        (sun, N_("The sun runs your home.")),
        (buying, N_("Your home runs on grid power.")),
    )
    return next((text for holds, text in rules if holds), N_("Your home needs almost no power right now."))
