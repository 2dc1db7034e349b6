"""The engine card of a founding hospital: where its server is, and the certificate by which it is known.

Rules: a card is public and holds no secret. Each server's certificate is signed by its own key alone and is trusted
because its card was exchanged: there is no authority in the middle that could vouch for a false server.
"""

import datetime as dt
import ipaddress
import re
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

import tomli_w
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from swarmcell.errors import ConfigError, InputError

CLIENT_PORT = 4222
CLUSTER_PORT = 6222
VALID_DAYS = 1095  # chosen: three years
_HEAD = """\
# The engine card of a founding hospital: where its server is, and the certificate by which it is known.
# It holds no secret: send it to all sites of the swarm.
"""


@dataclass(frozen=True, kw_only=True)
class ServerCard:
    """One server of the cluster.

    Attributes
    ----------
    site
        Name of the hospital that runs it.
    host
        Name or address at which all other sites reach it.
    client_port, cluster_port, websocket_port
        Ports for peers, for the other servers, and for peers by WebSocket (0: none).
    certificate
        PEM text.
    """

    site: str
    host: str
    client_port: int = CLIENT_PORT
    cluster_port: int = CLUSTER_PORT
    websocket_port: int = 0
    certificate: str = ""

    def url(self, *, websocket: bool = False) -> str:
        """Return what a peer dials.

        Raises
        ------
        ConfigError
            If WebSocket is asked for and the server has none.
        """
        if not websocket:
            return f"tls://{bracketed(self.host)}:{self.client_port}"
        if not self.websocket_port:
            msg = f"{self.site}: its server offers no WebSocket. Ask it for a card made with --websocket-port 443."
            raise ConfigError(msg)
        return f"wss://{bracketed(self.host)}:{self.websocket_port}"

    def to_toml(self) -> bytes:
        """Return the card as a file to send."""
        return (_HEAD + tomli_w.dumps(asdict(self), multiline_strings=True)).encode()


def is_host(text: str) -> bool:
    """Say whether a text is a host's name or address, without a scheme, a port or a path."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9])?", text) is not None
    return True


def bracketed(host: str) -> str:
    """Return a host as it stands before `:port`; an IPv6 address needs brackets."""
    return f"[{host}]" if ":" in host else host


def load(path: Path) -> ServerCard:
    """Read an engine card.

    Raises
    ------
    InputError, ConfigError
        If it cannot be read, or is not one.
    """
    remedy = "Ask its hospital for the card again: swarmcell engine card"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        card = ServerCard(**content)
        x509.load_pem_x509_certificate(card.certificate.encode())
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}). {remedy}"
        raise InputError(msg) from error
    except (ValueError, AttributeError) as error:
        msg = f"{path}: not an engine card ({error}). {remedy}"
        raise ConfigError(msg) from error
    except TypeError as error:  # another file's keys
        msg = f"{path}: not an engine card (it holds {', '.join(content)}). {remedy}"
        raise ConfigError(msg) from error
    return card


def make_certificate(site: str, host: str) -> tuple[bytes, str]:
    """Make a key and the certificate that it signs for itself.

    Returns
    -------
    key, certificate
        PEM; the key is a secret.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))  # for sites whose clock is behind
        .not_valid_after(now + dt.timedelta(days=VALID_DAYS))
    )
    for extension, critical in _extensions(host, key.public_key()):
        builder = builder.add_extension(extension, critical=critical)
    certificate = builder.sign(key, hashes.SHA256())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return secret, certificate.public_bytes(serialization.Encoding.PEM).decode()


def _extensions(host: str, key: ec.EllipticCurvePublicKey) -> list[tuple[x509.ExtensionType, bool]]:
    """Return what OpenSSL's strict checks ask; no authority, so that one server's key cannot vouch for another's."""
    unused = dict.fromkeys(
        ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign"],
        False,
    )
    usage = x509.KeyUsage(digital_signature=True, encipher_only=False, decipher_only=False, **unused)
    return [
        (x509.SubjectAlternativeName([_host_name(host)]), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(key), False),
    ]


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
