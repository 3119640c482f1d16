"""The streams of a data endpoint: whose output each carries, what is refused, and how long its sender must wait."""

import asyncio
import re
from typing import Any
from urllib.parse import unquote

import grpc  # type: ignore[import-untyped]
from prometheus_client import Counter

from steps import wire
from steps.received import GapError, Origin, Received

#: How often a stream that waits looks for room, and how long one may say nothing, in seconds: there are not many.
TICK, SILENCE = 0.1, 600
MESSAGES = Counter("snoopy_endpoint_messages", "Messages that came")
BYTES = Counter("snoopy_endpoint_received_bytes", "Bytes of output that came")

#: Names become parts of keys and paths: how long each may be, and what it may hold besides letters, digits and dots.
NAMES = {"namespace": (63, "-"), "pod": (253, "-_"), "session": (200, "-_")}


class RefusedError(Exception):
    """A stream is refused: gRPC's code, and a sentence."""


class DataEndpoint:
    """The service, on sessions. `limit` is of a stream, and `room` of what is not in the object store yet, in bytes."""

    def __init__(self, received: Received, *, limit: int, room: int) -> None:
        self._received, self._limit, self._room = received, limit, room

    def handler(self) -> Any:
        """Give the service as gRPC's servers take it."""
        method = grpc.stream_stream_rpc_method_handler(
            self._export, wire.PodData.FromString, wire.Response.SerializeToString
        )
        return grpc.method_handlers_generic_handler(wire.SERVICE, {wire.METHOD: method})

    async def _export(self, _: Any, context: Any) -> None:
        came = 0
        while (message := await self._read(context)) is not grpc.aio.EOF:
            MESSAGES.inc()
            BYTES.inc(len(message.data))
            try:
                held = self._keep(context, message, came)
            except RefusedError as refused:
                await context.abort(*refused.args)
            came += len(message.data)
            await context.write(wire.Response(message=held))

    async def _read(self, context: Any) -> Any:
        """Read a message only when there is room for it: its sender waits as long, as HTTP/2 has it."""
        while self._received.spooled >= self._room:  # noqa: ASYNC110 - threads make room
            await asyncio.sleep(TICK)
        try:
            async with asyncio.timeout(SILENCE):
                return await context.read()
        except TimeoutError:
            await context.abort(grpc.StatusCode.ABORTED, f"the stream was silent for {SILENCE} seconds: begin another")

    def _keep(self, context: Any, message: Any, came: int) -> str:
        origin, offset = _origin(context, message.name)
        if came + len(message.data) > self._limit:
            raise RefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"a stream may bring {self._limit} bytes; the {came} that came first are kept",
            )
        try:
            return self._received.append(origin, message.data, None if offset is None else offset + came)
        except GapError as error:
            raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, str(error)) from None
        except OSError as error:
            raise RefusedError(grpc.StatusCode.UNAVAILABLE, f"the spool cannot be written: {error.strerror}") from None


def _origin(context: Any, pod: str) -> tuple[Origin, int | None]:
    """Tell whose output a stream carries, and how much of it came before, if the client says so."""
    said = {name: value for name, value in context.invocation_metadata() if name.startswith("snoopy-")}
    if not said:
        _, _, peer = unquote(context.peer()).partition(":")
        address, _, port = peer.rpartition(":")
        # No name may have a ~: whoever says names is nobody who said none.
        return Origin("~" + re.sub(r"[^0-9A-Za-z.:-]", "-", address.strip("[]")), _checked("pod", pod), port), None
    namespace, session, offset = (str(said.get(name, "")) for name in (wire.NAMESPACE, wire.SESSION, wire.OFFSET))
    if not re.fullmatch(r"\d{1,18}", offset, re.ASCII):
        raise RefusedError(
            grpc.StatusCode.INVALID_ARGUMENT, f"{wire.OFFSET}: {offset[:80]!r}: a number of bytes is needed"
        )
    names = {"namespace": namespace, "pod": pod, "session": session}
    return Origin(**{part: _checked(part, name) for part, name in names.items()}), int(offset)


def _checked(part: str, name: str) -> str:
    longest, besides = NAMES[part]
    if len(name) > longest or not re.fullmatch(rf"[A-Za-z0-9]([A-Za-z0-9{besides}]|\.(?!\.))*", name):
        raise RefusedError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"{part}: {name[:80]!r}: at most {longest} letters, digits, single dots and any of {besides} are allowed,"
            " the first a letter or digit",
        )
    return name
