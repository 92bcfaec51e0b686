"""A program in a network namespace of its own, which has nothing but a loopback interface.

What listens there was bound inside, and is served outside: a listening socket stays in the
namespace that it was made in, whichever process accepts from it. So nothing has to connect the two,
which would need the rights of root. Linux only.
"""

import ctypes
import errno
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from cachesim.errors import CachesimError

_NEW_USER, _NEW_NET = 0x10000000, 0x40000000  # of unshare(2)
_SET_FLAGS, _UP = 0x8914, 0x1  # of netdevice(7)
_DIE_WITH_PARENT = 1  # of prctl(2)
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # exit codes, as shells have them
_AT_ONCE = 200  # sockets in a message; Linux takes 253
_FAILED = b"!"


class Confined:
    """A program that has been started, but waits for `go`.

    Attributes:
        pid: its process.
        listeners: the sockets that listen inside, by port.
    """

    def __init__(
        self, ports: Iterable[int], command: Sequence[str], env: Mapping[str, str]
    ) -> None:
        """Start it, and listen on ports of its 127.0.0.1.

        Raises:
            CachesimError: the kernel does not allow it; the message says why.
        """
        if sys.platform != "linux":
            raise CachesimError(f"network namespaces need Linux, not {sys.platform}. {_INSTEAD}")
        wanted = sorted(set(ports))
        self._control, inside = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self._control.close()
            _run(inside, wanted, command, env)
        inside.close()
        found: list[int] = []
        while len(found) < len(wanted):
            message, sockets, _, _ = socket.recv_fds(self._control, 4096, _AT_ONCE)
            if not message or message.startswith(_FAILED):
                os.waitpid(self.pid, 0)
                raise CachesimError(f"{message[1:].decode() or 'it ended'}. {_INSTEAD}")
            found += sockets
        self.listeners = {p: socket.socket(fileno=fd) for p, fd in zip(wanted, found, strict=True)}

    def go(self) -> None:
        """Let the program begin."""
        self._control.sendall(b"go")
        self._control.close()


_INSTEAD = (
    "Leave the namespace out with --by-address, or run the program in a container that joins the "
    "zone's network"
)


def become(command: Sequence[str], env: Mapping[str, str]) -> int:
    """Execute a program in place of this one; return an exit code if that is not possible."""
    try:
        os.execvpe(command[0], list(command), dict(env))  # noqa: S606  # the user's own
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE


def _run(
    control: socket.socket, ports: Sequence[int], command: Sequence[str], env: Mapping[str, str]
) -> NoReturn:
    """Be the program. It never returns, as it is a fork."""
    try:
        try:
            parent = os.getppid()
            _enter()
            listeners = [socket.create_server(("127.0.0.1", port)) for port in ports]
            for n in range(0, len(listeners), _AT_ONCE):
                some = [it.fileno() for it in listeners[n : n + _AT_ONCE]]
                socket.send_fds(control, [b"."], some)
        except OSError as error:
            control.sendall(_FAILED + _why(error).encode())
            os._exit(_NOT_EXECUTABLE)
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent or not control.recv(2):
            os._exit(_NOT_EXECUTABLE)  # nobody serves it
        os._exit(become(command, env))
    finally:
        os._exit(_NOT_EXECUTABLE)


def _enter() -> None:
    """Make a network namespace, and its loopback interface; without rights, in a user namespace."""
    import fcntl  # not everywhere

    uid, gid = os.geteuid(), os.getegid()
    try:
        _unshare(_NEW_NET)
    except PermissionError:
        _unshare(_NEW_USER | _NEW_NET)
        # It stays the same user, as seen from within.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", b"lo", _UP))


def _unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _why(error: OSError) -> str:
    text = f"this kernel does not allow a network namespace: {error.strerror}"
    if error.errno in (errno.EPERM, errno.EACCES):
        text += (
            " (in a container it needs the capability SYS_ADMIN; as a user, see the sysctls "
            "kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns)"
        )
    elif error.errno == errno.ENOSPC:
        text += " (see the sysctl user.max_net_namespaces)"
    return text
