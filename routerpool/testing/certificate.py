"""Certificates a router must refuse, made on the spot by the `openssl` command."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["KINDS", "server_context"]

KINDS = ("selfsigned", "expired", "wrongname")


def server_context(kind: str) -> ssl.SSLContext:
    """A TLS server context with a certificate of this kind; FileNotFoundError where `openssl` is not installed."""
    if kind not in KINDS:
        raise ValueError(f"tls={kind!r}: one of {', '.join(KINDS)}")
    openssl = shutil.which("openssl")
    if openssl is None:
        raise FileNotFoundError("tls= needs the openssl command on the PATH")
    name = "DNS:elsewhere.invalid" if kind == "wrongname" else "IP:127.0.0.1"
    with TemporaryDirectory() as folder:
        key, certificate, old = (Path(folder, name) for name in ("key", "certificate", "old"))
        key_options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key)]
        subject = ["-subj", "/CN=upstream", "-addext", f"subjectAltName={name}"]
        _run([openssl, "req", "-x509", *key_options, *subject, "-days", "1", "-out", str(certificate)])
        if kind == "expired":
            signing = ["-in", str(certificate), "-signkey", str(key), "-days", "-1", "-out", str(old)]
            _run([openssl, "x509", *signing])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(old if kind == "expired" else certificate, key)
    return context


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)
