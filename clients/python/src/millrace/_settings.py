"""Where the services are and how a client shows who it is: arguments, else the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import grpc

from .errors import InvalidInput

#: Where one process serves everything by default.
DEFAULT_ENDPOINT = "http://127.0.0.1:7400"

#: An address, several separated by commas, or a list of them.
Endpoint = str | Sequence[str]


@dataclass(frozen=True)
class Tls:
    """Files in PEM for `https://` addresses."""

    #: The authority that signed the server's certificate. What the system trusts is not asked.
    ca: str | os.PathLike[str]
    #: The certificate that is shown, with its chain; None shows none.
    cert: str | os.PathLike[str] | None = None
    #: Its key.
    key: str | os.PathLike[str] | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files. Raises InvalidInput for one that cannot be read or lacks its pair."""
        if (self.cert is None) != (self.key is None):
            raise InvalidInput("tls", "cert and key go together: give both, or neither")
        return grpc.ssl_channel_credentials(
            root_certificates=_read("tls.ca", self.ca),
            private_key=None if self.key is None else _read("tls.key", self.key),
            certificate_chain=None if self.cert is None else _read("tls.cert", self.cert),
        )


@dataclass(frozen=True)
class Target:
    """An address as grpc wants it."""

    #: Host and port.
    address: str
    #: As it was given, for messages.
    endpoint: str
    #: Whether it speaks TLS.
    is_secure: bool


@dataclass(frozen=True)
class Settings:
    """Everything a client is made of."""

    ingest: tuple[Target, ...]
    join: tuple[Target, ...]
    serving: tuple[Target, ...]
    credentials: grpc.ChannelCredentials | None
    #: Sent with every call; never shown.
    token: str | None

    def __repr__(self) -> str:
        places = (self.ingest, self.join, self.serving)
        names = [",".join(target.endpoint for target in place) for place in places]
        return f"ingest={names[0]}, join={names[1]}, serving={names[2]}"


def settings(
    *,
    endpoint: Endpoint | None,
    serving: Endpoint | None,
    ingest: Endpoint | None,
    join: Endpoint | None,
    tls: Tls | None,
    token: str | None,
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """Completes the arguments from the environment; a variable that is empty is as good as unset.

    Raises InvalidInput for what is no address, no file, or would send a secret where others read.
    """

    def variable(name: str) -> str | None:
        return environment.get(f"MILLRACE_{name}") or None

    def places(given: Endpoint | None, name: str) -> list[str]:
        text = given or variable(name) or ()
        parts = text.split(",") if isinstance(text, str) else text
        return [part.strip() for part in parts if part.strip()]

    everything = places(endpoint, "ENDPOINT") or [DEFAULT_ENDPOINT]
    if tls is None and (ca := variable("CA")) is not None:
        tls = Tls(ca, variable("CERT"), variable("KEY"))
    token = _token(token or variable("TOKEN"))

    def role(given: Endpoint | None, name: str) -> tuple[Target, ...]:
        found = places(given, f"{name.upper()}_ENDPOINT") or everything
        return tuple(_target(text, tls, token) for text in found)

    return Settings(
        ingest=role(ingest, "ingest"),
        join=role(join, "join"),
        serving=role(serving, "serving"),
        credentials=None if tls is None else tls.credentials(),
        token=token,
    )


def _target(text: str, tls: Tls | None, token: str | None) -> Target:
    def refuse(rule: str) -> InvalidInput:
        return InvalidInput("endpoint", f"{text!r} {rule}")

    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise refuse("must be an address such as http://127.0.0.1:7400") from None
    if url.scheme not in ("http", "https"):
        raise refuse("must start with http:// or https://")
    if not url.hostname or " " in text or url.path.strip("/") or url.query or url.username:
        raise refuse("must be an address such as http://127.0.0.1:7400")
    is_secure = url.scheme == "https"
    if is_secure and tls is None:
        raise refuse("needs the certificate of who signed the server's: give it with tls")
    if not is_secure and tls is not None:
        raise refuse("is without TLS: use https://, or leave tls out")
    if not is_secure and token is not None and not _is_loopback(url):
        raise refuse("is without TLS: a token is sent over https:// alone, or to 127.0.0.1")
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return Target(f"{host}:{port or (443 if is_secure else 80)}", text, is_secure)


def _is_loopback(url: SplitResult) -> bool:
    """Whether it is an address of this machine, whatever name servers say."""
    try:
        return url.hostname == "localhost" or ip_address(url.hostname or "").is_loopback
    except ValueError:
        return False


def _token(token: str | None) -> str | None:
    """Reads `@FILE`. Raises InvalidInput for a token that no header carries."""
    if token is None:
        return None
    if token.startswith("@"):
        token = _read("token", token[1:]).decode("utf-8", "replace").strip()
    if not token or not all("!" <= character <= "~" for character in token):
        raise InvalidInput("token", "must be printable ASCII without spaces")
    return token


def _read(field: str, path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidInput(field, f"cannot be read: {error}") from error
