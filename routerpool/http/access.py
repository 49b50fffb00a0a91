"""Who may call: API keys and their planes, and the checks that keep web pages of strangers from calling for a person.

A server without keys on a laptop is not safe by itself: any page in a browser can send requests to it. So the Host
must be ours (DNS rebinding), a foreign Origin is refused (CSRF), and a body must be declared as JSON, which a page
cannot do across origins without asking first.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from typing import Literal

from yarl import URL

from routerpool.config.sections import ApiKey, ServerConfig
from routerpool.errors import RequestError
from routerpool.privacy.guard import is_loopback
from routerpool.types import Caller, Privacy

__all__ = ["Access", "Plane", "is_loopback"]

Plane = Literal["open", "user", "host", "admin"]
"""What a route is: open to all (health), for those who ask models, for hosts that forward by themselves, for those who
look after the router. A key of a later one opens the earlier ones, too."""

PLANES: tuple[Plane, ...] = ("open", "user", "host", "admin")
AN = {"host": "a host's", "admin": "an admin"}

PASSED_ON = ("Forwarded", "X-Forwarded-For", "X-Real-Ip")
"""Headers by which a proxy says for whom it asks."""

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
MANY_NAMES = 64
LOCAL_NAMES = frozenset({"localhost"})


class Access:
    """Decides on the matched route's plane and the request's headers, never on a path or a rebuilt URL."""

    def __init__(self, config: ServerConfig) -> None:
        self.open = config.keyless
        """Whether nobody is asked for a key."""
        self._users = tuple(_caller(key, "user") for key in config.api_keys)
        self._forwarding = tuple(_caller(key, "host") for key in config.host_keys)
        self._admins = tuple(_caller(key, "admin") for key in config.admin_keys)
        self._hosts = LOCAL_NAMES | {name.lower() for name in config.allowed_hosts}
        if not _is_address(config.host):
            self._hosts |= {config.host.lower()}
        self._good: set[str] = set()  # Host headers that were found to be ours
        self._any_host = "*" in config.allowed_hosts
        self.origins = frozenset(config.allowed_origins)

    def check(self, method: str, headers: Mapping[str, str], plane: Plane, *, target: str | None = None) -> Caller:
        """Who calls; a RequestError says why a request is not let in. Without keys, see `check_near` as well.

        `target` is the host of the request line, where an absolute URL stands in it; it must be ours as well.
        """
        if not self._any_host:
            self._check_host(headers.get("Host", ""))
            if target is not None:
                self._check_host(target)
        if method in WRITES:
            self._check_origin(headers, plane)
            if plane != "open":  # nothing that is open takes a body; who asks for a path we lack is told that
                self._check_type(headers)
        elif method != "OPTIONS" and not _is_opened(headers):
            self._check_origin(headers, plane)
        return ANYBODY if plane == "open" else self._identify(headers, plane)

    def check_near(self, remote: str | None, headers: Mapping[str, str]) -> None:
        """Whether a caller without a key is on this machine, as a host must be; no `remote` is a socket of the system.

        What a proxy has passed on came from anywhere.
        """
        if (remote and not is_loopback(remote)) or any(name in headers for name in PASSED_ON):
            message = "this route is for this machine only, or for a host's key; add one to server.host_keys"
            raise RequestError("host_only", message)

    def check_release(self, plugin: str, persist: bool) -> None:
        """Whether an admin may switch a required plugin off: only one with a key, and not for good."""
        required = f"{plugin!r} is a required plugin"
        if self.open:
            cure = "it is switched off with an admin key only, or in the configuration; add one to server.admin_keys"
            raise RequestError("admin_only", f"{required}; {cure}")
        if persist:
            cure = "for good it is switched off in the configuration only, by `required: false` or `enabled: false`"
            raise RequestError("invalid_request", f"{required}; {cure}", param="persist")

    def _check_host(self, host: str) -> None:
        if host in self._good:
            return
        name = _host_name(host)
        if name is None or not (name in self._hosts or _is_address(name)):
            message = "this Host is not one of the server's names; add it to server.allowed_hosts if it is yours"
            raise RequestError("misdirected_host", message)
        if len(self._good) < MANY_NAMES:
            self._good.add(host)

    def _check_origin(self, headers: Mapping[str, str], plane: Plane) -> None:
        origin = headers.get("Origin")
        if origin is None:
            if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
                raise RequestError("forbidden_origin", FOREIGN)
            return
        if (origin in self.origins or "*" in self.origins) and not (self.open and plane in OPEN):
            return
        if origin == "null" or _authority(origin) != headers.get("Host", "").lower():
            raise RequestError("forbidden_origin", FOREIGN)

    def _check_type(self, headers: Mapping[str, str]) -> None:
        declared = headers.get("Content-Type", "")
        kind = declared if declared == "application/json" else declared.partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            raise RequestError("unsupported_media_type", "send the body as `Content-Type: application/json`")
        if "Content-Encoding" in headers and any(
            name.lower() == "content-encoding" and value.strip().lower() != "identity"
            for name, value in headers.items()
        ):
            raise RequestError("unsupported_media_type", "send the body uncompressed")

    def _identify(self, headers: Mapping[str, str], plane: Plane) -> Caller:
        if self.open:
            return ANYBODY if plane == "user" else OPEN[plane]
        given = _credential(headers)
        if given is None:
            message = "send one of this server's keys as `Authorization: Bearer KEY`"
            raise RequestError("missing_api_key", message)
        digest = hashlib.sha256(given.encode("utf-8", "surrogateescape")).hexdigest()
        found: Caller | None = None
        for stored, caller in (
            *self._users,
            *self._forwarding,
            *self._admins,
        ):  # all of them, so that time tells nothing
            if hmac.compare_digest(stored, digest):
                found = caller
        if found is None:
            raise RequestError("invalid_api_key", "this key is not one of the server's")
        if PLANES.index(found.plane) < PLANES.index(plane):
            there = self._admins if plane == "admin" else (*self._forwarding, *self._admins)
            hint = "" if there else f"; none is configured, add one to server.{plane}_keys"
            raise RequestError(f"{plane}_only", f"this route needs {AN[plane]} key{hint}")
        return found


ANYBODY = Caller()
OPEN: Mapping[str, Caller] = {"host": Caller(plane="host"), "admin": Caller(plane="admin")}
"""Who calls a server without keys."""
FOREIGN = "a web page of another origin sent this; add its origin to server.allowed_origins if it may"


def _is_opened(headers: Mapping[str, str]) -> bool:
    """Whether somebody has followed a link to us: no page sees what comes of that."""
    return (
        headers.get("Sec-Fetch-Mode") == "navigate"
        and headers.get("Sec-Fetch-Dest") == "document"
        and "Origin" not in headers
    )


def _caller(key: ApiKey, plane: Literal["user", "host", "admin"]) -> tuple[str, Caller]:
    caller = Caller(id=key.name, plane=plane, profile=key.profile, privacy=key.privacy or Privacy.PUBLIC)
    return key.sha256, caller


def _credential(headers: Mapping[str, str]) -> str | None:
    authorization = headers.get("Authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return token.strip()
    return headers.get("X-Api-Key") or None


def _host_name(host: str) -> str | None:
    """The name in a Host header, lower case, without its port; None when it is no plain host."""
    if not host or any(sign in host for sign in "/@\\ ,"):
        return None
    name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not colon:
        name = host
    elif not port.isascii() or not port.isdigit():
        return None
    return name.lower()


def _is_address(host: str) -> bool:
    """An address cannot be rebound by anybody's name server, so any of our own will do."""
    try:
        ipaddress.ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    except ValueError:
        return False
    return True


def _authority(origin: str) -> str:
    try:
        url = URL(origin)
    except ValueError:
        return ""
    return origin.partition("://")[2].lower() if url.scheme in ("http", "https") else ""
