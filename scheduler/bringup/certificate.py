"""The daemon's certificate for its nodes: self-signed, made once, known to them by the digest of its bytes.

No authority vouches for it and no name in it is checked: a node is told the digest with its launch, and speaks to
nobody else. So a certificate from elsewhere does as well ([nodes] certificate and key), and a renewed one reaches the
nodes that are launched after it; earlier ones end with their leases.
"""

from __future__ import annotations

import os
import ssl
import subprocess
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

DAYS: Final = 3_650  # nothing checks it; a clock that is wrong must not keep a node from calling home
_OPENSSL_S: Final = 30.0  # it takes 20 ms; a machine without entropy may wait
_MAKE: Final = (
    *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-batch"),
    *("-days", str(DAYS), "-subj", "/CN=dsched nodes"),
)


class CertificateError(Exception):
    """There is none to answer nodes with; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Certificate:
    chain: Path  # PEM
    key: Path  # PEM, readable by the daemon alone

    @property
    def pin(self) -> str:
        """SHA-256 of the certificate, in hexadecimal. Raises CertificateError."""
        try:
            first = self.chain.read_text(encoding="ascii").partition("-----END CERTIFICATE-----")
            return sha256(ssl.PEM_cert_to_DER_cert(first[0][first[0].index("-----BEGIN") :] + first[1])).hexdigest()
        except (OSError, ValueError) as error:
            raise CertificateError(f"{self.chain}: no certificate in PEM: {error}") from error

    def context(self) -> ssl.SSLContext:
        """TLS 1.3 and nothing older. Raises CertificateError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_cert_chain(self.chain, self.key)
        except (OSError, ssl.SSLError) as error:
            raise CertificateError(f"{self.chain} and {self.key}: {error}") from error
        return context


def own_certificate(folder: Path) -> Certificate:
    """The one in this folder, made now if there is none. Raises CertificateError."""
    found = Certificate(folder / "nodes.pem", folder / "nodes.key")
    if found.chain.exists() and found.key.exists():
        return found
    fresh = Certificate(folder / "nodes.pem.new", folder / "nodes.key.new")
    try:
        os.close(os.open(fresh.key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))  # private from its first moment
        command = [*_MAKE, "-keyout", str(fresh.key), "-out", str(fresh.chain)]
        subprocess.run(command, check=True, capture_output=True, timeout=_OPENSSL_S)
        os.replace(fresh.key, found.key)
        os.replace(fresh.chain, found.chain)  # last: both are there or neither counts
    except FileNotFoundError as error:
        raise CertificateError(
            "[nodes] needs a certificate and there is no openssl to make one: install it, or name certificate and key"
        ) from error
    except subprocess.CalledProcessError as error:
        raise CertificateError(
            f"openssl made no certificate: {error.stderr.decode(errors='replace')[-300:]}"
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CertificateError(f"{folder}: no certificate could be made: {error}") from error
    return found
