"""Where a device answers: endpoint strings, parsed once."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

from drivers.errors import EndpointError

Scheme = Literal["tcp", "tls", "rtu", "rtu+tcp"]
_DEFAULT_PORT = {"tcp": 502, "tls": 802, "rtu+tcp": 502}
_OPTIONS = {
    "tcp": set[str](),
    "rtu+tcp": set[str](),
    "tls": {"ca", "cert", "key"},
    "rtu": {"baud", "parity", "stopbits"},
}
_HELP = "expected tcp://host[:502], tls://host[:802]?ca=..&cert=..&key=.., rtu+tcp://host:port or rtu:///dev/tty..?baud=9600"


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """A parsed endpoint string."""

    text: str
    """As written."""
    scheme: Scheme
    """Transport and framing."""
    host: str = ""
    """Name or address; empty on a serial line."""
    port: int = 0
    """TCP port; 0 on a serial line."""
    path: str = ""
    """Serial device; empty on TCP."""
    baud: int = 9600
    """Serial speed [bit/s]."""
    parity: Literal["N", "E", "O"] = "N"
    """Serial parity."""
    stopbits: int = 1
    """Serial stop bits."""
    ca: str | None = None
    """File of the authority that signed the device's certificate (TLS)."""
    cert: str | None = None
    """File of our own certificate; Modbus/TCP Security asks for one (TLS)."""
    key: str | None = None
    """File of our own key (TLS)."""

    @property
    def place(self) -> tuple[str, str, int, str]:
        """What is connected to; endpoints written differently that share it share one connection."""
        return self.scheme, self.host.lower(), self.port, self.path

    @property
    def settings(self) -> tuple[object, ...]:
        """How it is connected to."""
        return self.baud, self.parity, self.stopbits, self.ca, self.cert, self.key


def parse_endpoint(text: str) -> Endpoint:
    """Parse an endpoint string.

    Raises
    ------
    EndpointError
        Naming the part that is wrong and what was expected.
    """
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise EndpointError(f"endpoint {text!r}: {error}; {_HELP}") from None
    scheme = parts.scheme
    if scheme not in _OPTIONS:
        raise EndpointError(f"endpoint {text!r}: unknown scheme {scheme!r}; {_HELP}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(set(options) - _OPTIONS[scheme]):
        raise EndpointError(f"endpoint {text!r}: unknown option {unknown[0]!r}; {_HELP}")
    if scheme == "rtu":
        return _serial(text, parts.path or parts.netloc, options)
    if parts.path not in ("", "/") or not parts.hostname:
        raise EndpointError(f"endpoint {text!r}: host missing or followed by a path; {_HELP}")
    try:
        port = parts.port or _DEFAULT_PORT[scheme]
    except ValueError as error:
        raise EndpointError(f"endpoint {text!r}: {error}; {_HELP}") from None
    if scheme == "tcp":
        return Endpoint(text=text, scheme="tcp", host=parts.hostname, port=port)
    if scheme == "rtu+tcp":
        return Endpoint(text=text, scheme="rtu+tcp", host=parts.hostname, port=port)
    return Endpoint(text=text, scheme="tls", host=parts.hostname, port=port, **options)  # type: ignore[arg-type]


def _serial(text: str, path: str, options: dict[str, str]) -> Endpoint:
    if not path.startswith("/"):
        raise EndpointError(f"endpoint {text!r}: serial device path missing; {_HELP}")
    try:
        baud, stopbits = int(options.get("baud", "9600")), int(options.get("stopbits", "1"))
    except ValueError:
        raise EndpointError(f"endpoint {text!r}: baud and stopbits must be whole numbers; {_HELP}") from None
    if not 300 <= baud <= 4_000_000 or stopbits not in (1, 2):
        raise EndpointError(f"endpoint {text!r}: baud {baud} or stopbits {stopbits} out of range; {_HELP}")
    match options.get("parity", "N").upper():
        case "N":
            return Endpoint(text=text, scheme="rtu", path=path, baud=baud, parity="N", stopbits=stopbits)
        case "E":
            return Endpoint(text=text, scheme="rtu", path=path, baud=baud, parity="E", stopbits=stopbits)
        case "O":
            return Endpoint(text=text, scheme="rtu", path=path, baud=baud, parity="O", stopbits=stopbits)
        case other:
            raise EndpointError(f"endpoint {text!r}: parity {other!r} is not N, E or O; {_HELP}")
