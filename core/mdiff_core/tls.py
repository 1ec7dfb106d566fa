"""The PEM files of one end of a TLS connection."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from mdiff_core.errors import DataError, UsageError


@dataclass(frozen=True)
class Certificates:
    """PEM files of one end of a TLS connection, checked when named: gRPC tells of a bad one late, and not which.

    Attributes:
        ca: certificates of the authorities that sign the other end's; none: the other end need not show one.
        certificate: what this end shows, with the chain up to its authority; none: nothing.
        key: the certificate's private key, not encrypted.

    Raises:
        UsageError: a certificate without its key, or a key without its certificate.
        DataError: a file that cannot be read or is not PEM, or the key of another certificate.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca:
            try:
                context.load_verify_locations(self.ca)
            except OSError as error:
                raise DataError(f"{self.ca}: no readable PEM certificate ({_reason(error)})") from error
        if self.certificate and self.key:
            for path in (self.certificate, self.key):
                try:
                    path.read_bytes()
                except OSError as error:
                    raise DataError(f"{path}: cannot be read ({_reason(error)})") from error
            try:
                # Without a password an encrypted key would ask for one at the terminal.
                context.load_cert_chain(self.certificate, self.key, password="")
            except ssl.SSLError as error:
                raise DataError(
                    f"{self.certificate} and {self.key}: not a PEM certificate and its unencrypted PEM key "
                    f"({_reason(error)})"
                ) from error
        elif self.certificate or self.key:
            raise UsageError("a certificate and its key belong together: give both --tls-cert and --tls-key")


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").lower().replace("_", " ")
    return error.strerror or str(error)
