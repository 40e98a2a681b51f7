"""Texts: every reason has its sentence in both languages, every text its translation, numbers their own customs."""

import re
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from types import ModuleType

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as st

from api.dashboard import words as module
from api.dashboard.languages import FOLDER, LANGUAGES, preferred, translations
from api.dashboard.words import BATTERY, LOAD, VEHICLE, Words
from ems.plan import Action, Reason

DASHBOARD = Path(module.__file__).parent
NOW = datetime(2026, 6, 3, 4, 20, tzinfo=UTC)
CODES = re.findall(
    r"`([a-z_]+)`",
    (Reason.__doc__ or "")
    + Path(__import__("ems.plan").plan.__file__)
    .read_text()
    .split('code: str\n    """Kind of reason: ')[1]
    .split('"""')[0],
)
PLACEHOLDER = re.compile(r"%\([a-z]+\)s")


def catalogue() -> Catalog:
    return read_po(BytesIO((FOLDER / "ko" / "LC_MESSAGES" / "messages.po").read_bytes()), locale="ko")


def sources() -> set[str]:
    found = extract_from_dir(
        str(DASHBOARD),
        method_map=[("**.py", "python"), ("templates/**.html", "jinja2")],
        options_map={"templates/**.html": {"trimmed": "true", "silent": "false"}},
        keywords={"_": None, "N_": None, "gettext": None},
    )
    return {str(message) for _, _, message, *_ in found}


def test_every_text_has_a_finished_translation_and_no_translation_is_left_over() -> None:
    known = {str(message.id): message for message in catalogue() if message.id}
    assert sources() == set(known)
    for text, message in known.items():
        assert message.string, text
        assert not message.fuzzy, text
        assert sorted(PLACEHOLDER.findall(text)) == sorted(PLACEHOLDER.findall(str(message.string))), text
    assert not catalogue().obsolete


def test_the_codes_of_the_plan_are_known_here() -> None:
    assert len(CODES) == 13
    assert set(CODES) - set(LOAD) == set(BATTERY) == set(VEHICLE)


@pytest.mark.parametrize("later", [None, NOW + timedelta(hours=5)], ids=["now", "later"])
@pytest.mark.parametrize("asset", ["battery", "roof", "car"])
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", CODES)
def test_every_reason_has_a_sentence(
    kit: ModuleType, code: str, language: str, asset: str, later: datetime | None
) -> None:
    site = kit.make_site(2, vehicle=True)
    reason = Reason(asset=asset, start_at=NOW, action=Action.CHARGE, code=code, later_at=later)
    sentence = Words(language, "Asia/Seoul", "KRW", NOW).reason(reason, site)
    assert sentence.endswith(".")
    assert "%" not in sentence
    assert "_" not in sentence
    assert bool(re.search("[가-힣]", sentence)) == (language == "ko")


def test_a_reason_from_a_newer_service_is_not_shown_raw(kit: ModuleType) -> None:
    reason = Reason(asset="battery", start_at=NOW, action=Action.HOLD, code="quantum_hedge")
    sentence = Words("en", "Asia/Seoul", "KRW", NOW).reason(reason, kit.make_site(1))
    assert sentence == "This is part of today's plan."


@pytest.mark.parametrize(
    ("language", "currency", "amount", "shown"),
    [
        ("en", "KRW", 1240.4, "₩1,240"),
        ("ko", "KRW", 1240.4, "₩1,240"),
        ("en", "USD", 0.326, "$0.33"),
        ("en", "USD", -0.001, "$0.00"),
        ("en", "EUR", -1.5, "-€1.50"),
        ("en", "KRW", None, "unknown"),
        ("ko", "KRW", None, "알 수 없음"),
    ],
)
def test_money(language: str, currency: str, amount: float | None, shown: str) -> None:
    assert Words(language, "Asia/Seoul", currency, NOW).money(amount) == shown


@pytest.mark.parametrize(
    ("currency", "per_kwh", "shown"),
    [
        ("KRW", 154.6, "₩155/kWh"),
        ("USD", 0.213, "$0.213/kWh"),
        ("EUR", -0.05, "-€0.050/kWh"),
        ("KRW", None, "unknown"),
    ],
)
def test_price(currency: str, per_kwh: float | None, shown: str) -> None:
    assert Words("en", "Asia/Seoul", currency, NOW).price(per_kwh) == shown


@pytest.mark.parametrize(
    ("hours", "en", "ko"),
    [
        (0, "13:20", "13:20"),
        (12, "01:20 tomorrow", "내일 01:20"),
        (-14, "23:20 yesterday", "어제 23:20"),
        (72, "13:20 on Sat 6 June", "6월 6일 (토) 13:20"),
    ],
)
def test_time_is_local_and_says_which_day(hours: int, en: str, ko: str) -> None:
    at = NOW + timedelta(hours=hours)
    assert Words("en", "Asia/Seoul", "KRW", NOW).time(at) == en
    assert Words("ko", "Asia/Seoul", "KRW", NOW).time(at) == ko


def test_a_small_negative_power_is_not_minus_zero() -> None:
    assert Words("en", "Asia/Seoul", "KRW", NOW).kw(-0.004) == "0.0\N{NO-BREAK SPACE}kW"


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "ko"),
        ("en-GB,en;q=0.9", "en"),
        ("ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        ("fr-FR,fr;q=0.9,en;q=0.5,ko;q=0.4", "en"),
        ("fr", "ko"),
        ("en;q=nonsense", "ko"),
    ],
)
def test_language_of_a_browser(header: str, language: str) -> None:
    assert preferred(header) == language


@given(st.text(max_size=60))
def test_any_header_gives_a_language(header: str) -> None:
    assert preferred(header) in LANGUAGES
    assert translations(preferred(header)) is not None
