"""How a Triton server is reached: address, TLS, token, and how long to wait."""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import ssl
from dataclasses import dataclass, field

from mdiff_core import UsageError
from mdiff_core.tls import Certificates

_logger = logging.getLogger(__name__)

# No other scheme of gRPC's: dns://SERVER/localhost:1 is whatever host SERVER says it is.
_ADDRESS = re.compile(r"(?:dns:///)?(?:\[(?P<ipv6>[0-9a-fA-F:]+)\]|(?P<name>[\w.-]+)):(?P<port>\d{1,5})", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, 2.1
_PROBE = 5.0  # seconds


@dataclass(frozen=True)
class Connection:
    """How a server is reached.

    Attributes:
        url: ``host:port`` of its gRPC endpoint, or ``dns:///host:port``. Calls go in turn to every address of the host.
        timeout: seconds that one call may take.
        patience: seconds for which a call is repeated while the server is unavailable.
        tls: with its ``ca`` the connection is encrypted and the server must prove that it is ``host``; with its
            ``certificate`` the client proves itself too.
        token: sent with every call as ``authorization: Bearer …`` (RFC 6750).

    Raises:
        UsageError: no such address, a certificate without a ``ca``, a malformed token, or one that would leave this
            machine unencrypted.
    """

    url: str
    timeout: float = 30.0
    patience: float = 60.0
    tls: Certificates = field(default_factory=Certificates)
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        address = _ADDRESS.fullmatch(self.url)
        if not address or int(address["port"]) > 65535:
            raise UsageError(f"{self.url!r} is no address of a server: give host:port, or dns:///host:port")
        if self.tls.certificate and not self.tls.ca:
            raise UsageError("a client certificate needs TLS: give --tls-ca, the authority that signed the server's")
        if self.token and not _TOKEN.fullmatch(self.token):
            raise UsageError("the bearer token has characters that no token has: set MDIFF_TOKEN to the token alone")
        if not self.tls.ca and not self.is_loopback:
            if self.token:
                raise UsageError(
                    f"a bearer token is not sent to {self.url} unencrypted: give --tls-ca, or no MDIFF_TOKEN"
                )
            _logger.warning("the connection to %s is not encrypted, and anyone may answer: give --tls-ca", self.url)

    @property
    def host(self) -> str:
        """Name or address, without scheme, brackets and port."""
        match = _ADDRESS.fullmatch(self.url)
        assert match
        return match["ipv6"] or match["name"]

    @property
    def port(self) -> int:
        """The gRPC endpoint's port."""
        return int(self.url.rpartition(":")[2])

    @property
    def is_loopback(self) -> bool:
        """The server is on this machine, by the address itself or the name ``localhost``."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    def refusal(self) -> str | None:
        """Why a server that listens cannot be talked to, found by a TLS handshake; None: TLS is not the reason.

        gRPC says of most such failures that the socket was closed, as it says of a server that is not ready yet.
        """
        context = ssl.create_default_context(cafile=self.tls.ca)
        context.set_alpn_protocols(["h2"])
        if self.tls.certificate and self.tls.key:
            context.load_cert_chain(self.tls.certificate, self.tls.key)
        if not self.tls.ca:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        unwelcome = (
            "does not accept this client: give --tls-cert and --tls-key of an authority it trusts"
            if self.tls.ca
            else "wants TLS: give --tls-ca"
        )
        try:
            with (
                socket.create_connection((self.host, self.port), min(self.timeout, _PROBE)) as plain,
                context.wrap_socket(plain, server_hostname=self.host) as encrypted,
            ):
                # Under TLS 1.3 the server judges the client's certificate after the handshake, then greets or leaves.
                return None if self.tls.ca and encrypted.recv(1) else unwelcome
        except ssl.SSLCertVerificationError as error:
            return f"shows a certificate that is not accepted ({error.verify_message}): check --tls-ca and --url"
        except ssl.SSLError as error:
            reason = error.reason or ""
            if self.tls.ca and reason == "WRONG_VERSION_NUMBER":
                return "does not speak TLS there: leave --tls-ca out, or give the port of its TLS"
            return unwelcome if "ALERT" in reason else None
        except (OSError, UnicodeError):  # the latter of a host that is no name
            return None
