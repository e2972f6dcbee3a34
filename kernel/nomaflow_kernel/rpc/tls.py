"""The server's side of TLS: gRPC asks for the certificate at every handshake, so a renewed one is used."""

from __future__ import annotations

import grpc

from nomaflow_kernel.network.certificates import Certificate, CertificateFiles

__all__ = ["server_credentials"]


def server_credentials(files: CertificateFiles) -> grpc.ServerCredentials:
    """Return credentials that follow the two files. BoringSSL refuses versions below 1.2 by itself."""

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        found = files.renewed()
        return None if found is None else _configuration(found)

    return grpc.dynamic_ssl_server_credentials(_configuration(files.current), renewed)  # type: ignore[arg-type]  # None means no change, as gRPC documents


def _configuration(certificate: Certificate) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(certificate.key, certificate.chain)])
