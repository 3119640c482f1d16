"""What both ends of a data endpoint agree on: the messages and the method of endpoint.proto, metadata, certificates."""

import ssl
from pathlib import Path
from typing import Any

from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

SERVICE, METHOD = "protobuf.DataEndpoint", "ExportPodData"
#: Metadata of a stream: the pod's namespace, one capture of it, and how many of its bytes came before.
NAMESPACE, SESSION, OFFSET = "snoopy-namespace", "snoopy-session", "snoopy-offset"


class CertificateError(Exception):
    """A TLS file cannot be used; the message is one sentence."""


def _messages() -> tuple[Any, Any]:
    """Make the classes of PodData and Response, in a pool of their own: others may have theirs in the default one."""
    text, data = descriptor_pb2.FieldDescriptorProto.TYPE_STRING, descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
    fields = {"PodData": [("name", 1, text), ("data", 2, data)], "Response": [("message", 1, text)]}
    file = descriptor_pb2.FileDescriptorProto(name="endpoint.proto", package="protobuf", syntax="proto3")
    for message, parts in fields.items():
        described = file.message_type.add(name=message)
        for name, number, kind in parts:
            described.field.add(
                name=name, number=number, type=kind, label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return tuple(message_factory.GetMessageClass(pool.FindMessageTypeByName(f"protobuf.{name}")) for name in fields)


PodData, Response = _messages()


def certificates(directory: Path) -> tuple[bytes, bytes, bytes]:
    """Read what a TLS Secret of Kubernetes holds, as PEM: the CA's certificate, our key and our certificate.

    Raises:
        CertificateError: a file cannot be read or is none, or the key is not the certificate's.

    """
    paths = ca, key, certificate = [directory / name for name in ("ca.crt", "tls.key", "tls.crt")]
    contents = []
    for path in paths:
        try:
            contents.append(path.read_bytes())
        except OSError as error:
            raise CertificateError(f"{path}: cannot be read: {error.strerror}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(ca)
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise CertificateError(
            f"{directory}: ca.crt, tls.crt and tls.key must be PEM, and belong together: {error.reason or error}"
        ) from None
    return contents[0], contents[1], contents[2]
