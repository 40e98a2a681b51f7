"""Languages of the pages: catalogues, and which one a browser gets.

Catalogues are compiled from their `.po` files at start, so that what is reviewed is what is shown.
"""

import io
from functools import cache
from gettext import GNUTranslations, NullTranslations
from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from starlette.requests import Request

FOLDER = Path(__file__).parent / "translations"
LANGUAGES = {"ko": "한국어", "en": "English"}
"""Code and own name of each language; the first is used when a browser wants none of them."""
COOKIE = "ems_language"


@cache
def translations(language: str) -> NullTranslations:
    """Return the catalogue of a language; English is the language of the sources."""
    if language == "en":
        return NullTranslations()
    with (FOLDER / language / "LC_MESSAGES" / "messages.po").open("rb") as file:
        catalogue = read_po(file, locale=language)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return GNUTranslations(compiled)


def language_of(request: Request) -> str:
    """Return the language asked for by URL, else by cookie, else by the browser's own settings."""
    for asked in (request.query_params.get("lang"), request.cookies.get(COOKIE)):
        if asked in LANGUAGES:
            return str(asked)
    return preferred(request.headers.get("accept-language", ""))


def preferred(accepted: str) -> str:
    """Return the best of our languages for an `Accept-Language` header."""
    best, best_q = next(iter(LANGUAGES)), 0.0
    for part in accepted.split(","):
        tag, _, parameter = part.strip().partition(";")
        code = tag.strip().lower().partition("-")[0]
        try:
            quality = float(parameter.strip().removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
        if code in LANGUAGES and quality > best_q:
            best, best_q = code, quality
    return best
