"""The stand-in for Amazon DCV on a head node: what answers `pcluster dcv-connect` and its link."""

from __future__ import annotations

import ipaddress
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from local_aws.head_node import HeadNodeAddress
from local_aws.machine import PROGRAMS, Login, give

DIRECTORY = "opt/parallelcluster/shared/dcv"
VALID_DAYS = 30


def install(root: Path, address: HeadNodeAddress, login: Login) -> None:
    """Make everything below `root` that the head node needs to answer a DCV link."""
    scripts = root / "opt/parallelcluster/scripts"
    for program in ("pcluster_dcv_connect.sh", "dcv_server.py"):
        shutil.copy(PROGRAMS / program, scripts / program)
    directory = root / DIRECTORY
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "port").write_text(f"{address.dcv_port}\n")
    certificate = directory / "certificate.pem"
    certificate.touch(mode=0o600)
    certificate.write_bytes(self_signed(address))
    give(certificate, login)


def server_command(address: HeadNodeAddress) -> list[str]:
    """The command that serves the page, inside the head node."""
    addresses = dict.fromkeys([address.private_ip, address.public_ip])
    return [
        "/opt/parallelcluster/scripts/dcv_server.py",
        str(address.dcv_port),
        f"/{DIRECTORY}/certificate.pem",
        *addresses,
    ]


def self_signed(address: HeadNodeAddress) -> bytes:
    """A private key and a self-signed certificate for the head node's addresses, in PEM, as DCV makes for itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, address.hostname)])
    now = datetime.now(UTC)
    addresses = [
        x509.IPAddress(ipaddress.ip_address(ip)) for ip in dict.fromkeys([address.private_ip, address.public_ip])
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem + certificate.public_bytes(serialization.Encoding.PEM)
