"""Secrets and certificates of channels: from the environment or a file, never from a site file, never shown."""

import ssl
from collections.abc import Mapping
from pathlib import Path

from ems.errors import ConfigError, Mistake
from ems.site import SecretRef

SHORTEST_SECRET = 24
"""Characters a webhook's secret has at least."""


def read_secret(ref: SecretRef, *, key: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Return a secret; raises ConfigError that names where it should be, never what it is.

    Parameters
    ----------
    ref
        Where it lies.
    key
        Dotted path of the key it belongs to, for messages.
    folder
        Folder relative paths start from: that of the site file.
    environment
        Where variables are looked up.
    """
    if ref.env is not None:
        found = environment.get(ref.env, "")
        if not found:
            raise _mistake(key, ref.env, "environment variable is not set", f"export {ref.env}=...")
        return found
    path = folder / str(ref.file)
    try:
        found = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(key, path, error) from error
    if not found:
        raise _mistake(key, str(path), "the file is empty", "write the secret into it")
    return found


def tls_context(
    *, ca_file: str | None, cert_file: str | None = None, key_file: str | None = None, key: str, folder: Path
) -> ssl.SSLContext:
    """Return a context that checks the peer's certificate and name; raises ConfigError."""
    shown = folder
    try:
        if ca_file is not None:
            shown = folder / ca_file
        context = ssl.create_default_context(cafile=None if ca_file is None else str(shown))
        if cert_file is not None:
            shown = folder / cert_file
            own_key = None if key_file is None else str(folder / key_file)
            context.load_cert_chain(str(shown), own_key)
    except (OSError, ssl.SSLError) as error:
        raise _unreadable(key, shown, error) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _unreadable(key: str, path: Path, error: Exception) -> ConfigError:
    reason = getattr(error, "strerror", None) or type(error).__name__
    return _mistake(key, str(path), f"cannot be read: {reason}", "name a file the service may read")


def _mistake(key: str, value: str, problem: str, remedy: str) -> ConfigError:
    return ConfigError([Mistake(file="controllers", key=key, value=value, problem=problem, remedy=remedy)])
