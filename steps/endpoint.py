"""The data endpoint: a gRPC server that appends what captures send to the object store, as it comes."""

import asyncio
import logging
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import grpc  # type: ignore[import-untyped]
from prometheus_client import Gauge, start_http_server

from steps import wire
from steps.objects import Bucket, ObjectStoreError, repository_from_environment
from steps.options import DURATION, SIZE
from steps.plan import SCRATCH
from steps.received import Received
from steps.streams import DataEndpoint

MIB = 1024**2
#: The largest message, in bytes, and the streams at a time: together what senders can make the server hold in memory,
#: and well below what its pod may have. Ours sends 1 MiB at a time, and podtracer as it was 32 KiB.
MESSAGE, STREAMS = 2 * MIB, 128
TICK = 1.0
#: What SIGTERM leaves, in seconds: to streams that are open, and to all.
STREAMS_GRACE, GRACE = 10, 25
OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE),
    ("grpc.http2.bdp_probe", 0),  # a stream that is not read takes 64 KiB, however fast its sender is
    ("grpc.keepalive_time_ms", 60_000),  # a sender that is gone without a word is noticed
    ("grpc.so_reuseport", 0),  # a port that is in use is an error
]
SPOOLED = Gauge("snoopy_endpoint_spooled_bytes", "Bytes that are not in the object store yet")


class EndpointError(Exception):
    """The server cannot start; the message is one sentence."""


async def serve(received: Received, *, port: int, limit: int, room: int, credentials: Any = None) -> int:
    """Serve until SIGTERM or SIGINT; give the number of files that could not be stored within the grace period.

    Raises:
        EndpointError: the port cannot be listened on.

    """
    server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=STREAMS)
    server.add_generic_rpc_handlers((DataEndpoint(received, limit=limit, room=room).handler(),))
    address = f"[::]:{port}"
    try:
        bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError:
        raise EndpointError(f"port: {port}: it is in use, or may not be listened on") from None
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.start()
    click.echo(f"listening on port {bound}")
    while not stop.is_set():
        try:
            received.tick()
        except OSError as error:
            click.echo(f"endpoint: the spool cannot be written: {error.strerror}", err=True)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), TICK)
    deadline = time.monotonic() + GRACE
    await server.stop(STREAMS_GRACE)
    return received.end(deadline - time.monotonic())


def server_credentials(directory: Path) -> Any:
    """Give what mutual TLS needs, from tls.crt, tls.key and ca.crt; files that change count for the next connection.

    Raises:
        CertificateError: a file cannot be read.

    """

    def configuration() -> Any:
        ca, key, certificate = wire.certificates(directory)
        return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=ca)

    def current() -> Any:
        with suppress(wire.CertificateError):
            return configuration()
        return None  # which keeps what there is

    return grpc.dynamic_ssl_server_credentials(configuration(), current, require_client_authentication=True)


PORT = click.IntRange(0, 65535)


@click.command()
@click.option("--port", type=PORT, default=51001, show_default=True, help="Where to serve gRPC; 0: any free port.")
@click.option("--prefix", required=True, help="Where in the object store: data/NAMESPACE/SERVICE/.")
@click.option("--stream-limit", type=SIZE, default="1GiB", show_default=True, help="What one stream may bring.")
@click.option("--idle", type=DURATION, default="60s", show_default=True, help="A silent capture ends after this long.")
@click.option("--metrics-port", type=PORT, default=9090, show_default=True, help="Prometheus' metrics: HTTP.")
@click.option("--tls-dir", type=Path, help="Mutual TLS, with tls.crt, tls.key and ca.crt of this directory.")
@click.option("--spool", type=Path, default=SCRATCH / "spool", show_default=True, help="A directory of its own.")
@click.option("--spool-limit", type=SIZE, default="2GiB", show_default=True, help="When to wait for the object store.")
def main(  # noqa: PLR0913, PLR0917 - a command has this many options
    port: int,
    prefix: str,
    stream_limit: int,
    idle: float,
    metrics_port: int,
    tls_dir: Path | None,
    spool: Path,
    spool_limit: int,
) -> None:
    """Take the output of captures over gRPC (steps/endpoint.proto), and store it pod by pod while it comes.

    SIGTERM stores what is there, within 25 seconds. What is in the spool then, or when the process is killed, is stored
    by the next one that starts with the same spool.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        credentials = server_credentials(tls_dir) if tls_dir else None
        received = Received(Bucket(repository_from_environment()), prefix.rstrip("/") + "/", spool, idle=idle)
        SPOOLED.set_function(lambda: received.spooled)
        click.echo(f"metrics on port {_metrics(metrics_port)}")
        left = asyncio.run(serve(received, port=port, limit=stream_limit, room=spool_limit, credentials=credentials))
    except wire.CertificateError as error:
        sys.exit(_say(error, 2))
    except (ObjectStoreError, EndpointError) as error:
        sys.exit(_say(error, 1))
    except OSError as error:
        sys.exit(_say(f"{error.filename or spool}: {error.strerror}", 1))
    sys.exit(_say(f"{left} files could not be stored in time, and are in {spool}", 1) if left else 0)


def _metrics(port: int) -> int:
    try:
        server, _ = start_http_server(port)
    except OSError as error:
        raise EndpointError(f"metrics-port: {port}: {error.strerror}") from None
    return server.server_port


def _say(message: object, code: int) -> int:
    click.echo(f"endpoint: {message}", err=True)
    return code


if __name__ == "__main__":
    main()
