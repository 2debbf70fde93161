"""The end of a listening socket without a connection that is accepted and then reset.

The system completes connections before the program accepts them. Closing the socket resets those
that are complete and not accepted yet, after their clients have sent a request. So the system is
first told to ignore new clients, who try again and are then refused in the open.
"""

import contextlib
import ctypes
import socket
import struct
import sys

SO_ATTACH_FILTER = 26
"""Linux's number, which Python's socket module does not have."""
_SYN, _SYN_AND_ACK = 0x02, 0x12
# A classic BPF program over the TCP header: (operation, jump if true, jump if false, operand).
_PROGRAM = (
    (0x30, 0, 0, 13),  # load the byte of flags
    (0x54, 0, 0, _SYN_AND_ACK),  # keep two of them
    (0x15, 0, 1, _SYN),  # a client's first packet?
    (0x06, 0, 0, 0),  # then drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # let everything else through
)


def ignore_new_clients(listener: socket.socket) -> None:
    """Let nobody else connect; connections that are being made are still completed.

    Where the system is not Linux or does not allow it, nothing changes.
    """
    if sys.platform != "linux":
        return
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _PROGRAM))
    # struct sock_fprog: the number of steps and where they are.
    program = struct.pack("HP", len(_PROGRAM), ctypes.addressof(code))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
