"""The kernel: every packet of a capture in one pass, bytes in, columns out. Its code is Rust, in `src`.

A capture of a million packets takes a fifth of a second; nothing of its bytes passes through Python objects. The
interface is C's and narrow, so that another kernel could take its place.
"""

import ctypes
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

SKIPPED = (  # why a packet is in no connection
    "not IP",
    "headers cut short",
    "damaged headers",
    "link type not decoded",
    "IP without TCP, UDP, SCTP or ICMP",
    "IP fragment of an unknown datagram",
    "damaged record",
    "more connections than are told apart",
)
TUNNELS = ("", "vxlan", "geneve", "gre", "ipip", "6in4", "gtp", "teredo")
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp", 132: "sctp"}  # www.iana.org/assignments/protocol-numbers
KINDS = (  # what TCP analysis says of a segment, by bit
    "retransmission",
    "fast_retransmission",
    "spurious_retransmission",
    "out_of_order",
    "lost_segment",
    "keep_alive",
    "duplicate_ack",
    "zero_window",
    "window_full",
)
SYN_TIMES = 7  # of SYNs sent again, that are kept of a connection
APPLICATIONS = ("", "dns", "tls", "http", "http2")
VXLAN_PORTS = (4789, 8472)  # IANA's, and Linux's default, which Flannel and Cilium use
MOST_SELECTED = 250_000  # packets to dissect: Wireshark takes a minute for them
TOTALS, CONNECTIONS, SELECTED, PACKETS = range(4)
VERSION = 2  # of the kernel's columns
_FAILED = ctypes.c_size_t(-1).value

Columns = dict[str, npt.NDArray[Any]]


class KernelError(Exception):
    """The kernel failed on what it was given, which is a defect of it."""


class Ends(NamedTuple):
    """A connection's ends: addresses as text, ports, and the number of its protocol."""

    src: str
    src_port: int
    dst: str
    dst_port: int
    protocol: int


class _View(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_size_t),
        ("dtype", ctypes.c_void_p),
        ("dtype_size", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
    )


def _load() -> ctypes.CDLL:
    here = Path(__file__).parent
    built = [path for suffix in EXTENSION_SUFFIXES if (path := here / f"native{suffix}").exists()]
    if not built:
        raise ImportError("analysis.kernel is not built: `make install` builds it, and needs Rust's cargo")
    library = ctypes.CDLL(str(built[0]))
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    signatures: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "kernel_version": (ctypes.c_uint32, ()),
        "kernel_new": (pointer, (pointer, size, ctypes.c_uint64, ctypes.c_bool)),
        "kernel_follow": (
            None,
            (pointer, ctypes.c_char_p, ctypes.c_uint16, ctypes.c_uint16, ctypes.c_uint8, ctypes.c_bool),
        ),
        "kernel_begin": (None, (pointer,)),
        "kernel_feed": (size, (pointer, pointer, size, ctypes.c_bool)),
        "kernel_columns": (size, (pointer, ctypes.c_uint32, ctypes.POINTER(ctypes.POINTER(_View)))),
        "kernel_free": (None, (pointer,)),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    if library.kernel_version() != VERSION:
        raise ImportError("analysis.kernel was built from other sources: `make install` builds it anew")
    return library


_library = _load()


class Kernel:
    """One capture's pass. Calls release Python's lock: captures can be read side by side in threads."""

    def __init__(
        self, *, vxlan_ports: Sequence[int] = VXLAN_PORTS, most_selected: int = MOST_SELECTED, packets: bool = False
    ) -> None:
        """Begin a capture; `packets` asks for columns of packets, to be taken after each `feed`."""
        ports = (ctypes.c_uint16 * len(vxlan_ports))(*vxlan_ports)
        self._kernel = _library.kernel_new(ctypes.addressof(ports), len(ports), most_selected, packets)
        if not self._kernel:
            raise KernelError("the kernel could not begin")

    def __del__(self) -> None:
        if getattr(self, "_kernel", None):
            _library.kernel_free(self._kernel)

    def follow(self, ends: Ends) -> None:
        """Select the packets of this connection, in both directions, instead of what is worth dissecting."""
        src, dst = ip_address(ends.src), ip_address(ends.dst)
        packed = src.packed.rjust(16, b"\0") + dst.packed.rjust(16, b"\0")
        _library.kernel_follow(self._kernel, packed, ends.src_port, ends.dst_port, ends.protocol, src.version > 4)  # noqa: PLR2004 - IP's versions

    def begin(self) -> None:
        """Begin a file: its format is read anew, frames are numbered on."""
        _library.kernel_begin(self._kernel)

    def feed(self, data: bytearray, size: int, *, is_last: bool) -> int:
        """Read the records at the front of `data[:size]`; give how many bytes they have. The rest is asked for again.

        Raises:
            KernelError: a defect of the kernel.

        """
        pinned = ctypes.c_char.from_buffer(data)  # until the kernel is done with it
        used: int = _library.kernel_feed(self._kernel, ctypes.addressof(pinned), size, is_last)
        if used == _FAILED:
            raise KernelError("the kernel failed on these packets")
        return used

    def columns(self, wanted: int) -> Columns:
        """Give arrays by name: TOTALS; at the end, once, CONNECTIONS; SELECTED or PACKETS since they were asked for.

        Raises:
            KernelError: a defect of the kernel.

        """
        views = ctypes.POINTER(_View)()
        count = _library.kernel_columns(self._kernel, wanted, ctypes.byref(views))
        if count == _FAILED:
            raise KernelError("the kernel failed on these connections")
        return dict(_column(views[number]) for number in range(count))


def _column(view: _View) -> tuple[str, npt.NDArray[Any]]:
    name = ctypes.string_at(view.name, view.name_size).decode()
    dtype = np.dtype(ctypes.string_at(view.dtype, view.dtype_size).decode())
    numbers = np.empty(view.size // dtype.itemsize, dtype)
    ctypes.memmove(numbers.ctypes.data, view.data, view.size)
    return name, numbers
