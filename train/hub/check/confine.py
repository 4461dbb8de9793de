"""What a process may do that reads a stranger's folder: bounded in time and memory, without network, watched by Python.

The upper half is for the process that starts another one, the lower half for the one that is started; it knows the standard
library alone, for `stranger.py` loads this file by its path. The watch is an audit hook: it sees what goes through Python, in
no way what a compiled library does by itself. It finds out, and it is no sandbox.
"""

import contextlib
import ctypes
import hashlib
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

try:
    import resource
except ImportError:  # Windows: nothing is bounded there, and the report says so
    resource = None

# What a process needs to start; nothing else of the environment reaches the code of a repository: no token, no setting.
KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "SYSTEMROOT")
GIBIBYTE = 1 << 30
# Beyond the libraries and the weights; threads reserve addresses that they do not use.
ALLOWANCE = 4 * GIBIBYTE + (os.cpu_count() or 1) * (128 << 20)
# Bytes for each byte of weights: three models at a time, in fp32, and what the optimiser keeps of one.
FOR_EACH_BYTE = 24


class OutOfTimeError(BaseException):
    """The time is over; no `except Exception` of a check or a library takes it for a fault of the folder."""


class Deadline:
    """A moment by which all of it must be done."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, at least a moment."""
        return max(0.001, self._end - time.monotonic())

    @contextlib.contextmanager
    def alarm(self) -> Iterator[None]:
        """End what runs inside with `OutOfTimeError` when the time is over; only the main thread can be ended so.

        The alarm rings again each second, for a library may swallow the first.
        """
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
            yield
            return
        before = signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, self.left(), 1.0)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before or signal.SIG_DFL)

    def _ring(self, *_: Any) -> None:
        raise OutOfTimeError(f"not done after {self.seconds:g} seconds")


def run(arguments: list[str], work: Path, deadline: Deadline) -> tuple[int, str]:
    """Run a process in an empty home without the environment, and end it with all that it started.

    Args:
        arguments: of its command line, without the interpreter.
        work: an empty folder; its `home` becomes the home.
        deadline: of all of it.

    Returns:
        Its exit code, and the last line of its errors.
    """
    home = work / "home"
    home.mkdir(exist_ok=True)
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment |= {"HOME": str(home), "HF_HOME": str(home / "hf"), "HF_HUB_OFFLINE": "1", "TMPDIR": str(work)}
    environment |= {"TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
    error_file = work / "errors.txt"
    with open(error_file, "wb") as errors, _ended_orphans():
        process = subprocess.Popen(
            [sys.executable, "-X", "utf8", "-B", *arguments],
            cwd=home,
            env=environment,
            # transformers asks a person whether it may run code: no answer is a no.
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            code = process.wait(deadline.left())
        except subprocess.TimeoutExpired:
            return -1, f"not done after {deadline.seconds:g} seconds"
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
            process.wait()
    return code, last_line(error_file)


@contextlib.contextmanager
def _ended_orphans() -> Iterator[None]:
    """End what a process of the block has started and left behind, also in a session of its own.

    On Linux this process becomes its parent for as long; elsewhere such a process goes on.
    """
    before = _children()
    _adopt(True)
    try:
        yield
    finally:
        session_here = os.getsid(0)
        for _ in range(100):  # what is ended may leave more behind
            left = [
                process
                for process, session in _children().items()
                if process not in before and session != session_here
            ]
            for process in left:
                with contextlib.suppress(ProcessLookupError, PermissionError, ChildProcessError):
                    os.kill(process, signal.SIGKILL)
                    os.waitpid(process, 0)
            if not left:
                break
        _adopt(False)


def _adopt(adopts: bool) -> None:
    """Let this process become the parent of orphans below it, or no longer, where the system has that."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(36, int(adopts), 0, 0, 0)  # PR_SET_CHILD_SUBREAPER of linux/prctl.h


def _children() -> dict[int, int]:
    """Return the processes whose parent is this one, each with its session; none where the system does not say."""
    sessions = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            parent, _, session = map(int, path.read_text().rpartition(")")[2].split()[1:4])
            if parent == os.getpid():
                sessions[int(path.parent.name)] = session
    return sessions


def last_line(path: Path) -> str:
    """Return the last line of a file, of which only the end is read."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else "nothing said"


def leave_network() -> bool:
    """Move this process into an empty network of its own; return whether the system allows it.

    Only a process with one thread may, so this comes first. In the new namespace this user stays who it is.
    """
    new_user, new_network = 0x10000000, 0x40000000  # CLONE_NEWUSER, CLONE_NEWNET of linux/sched.h
    try:
        user, group = os.getuid(), os.getgid()
        library = ctypes.CDLL(None, use_errno=True)
        # The administrator may at once; with a namespace of users it would lose its right to other users' files.
        if library.unshare(new_network) == 0:
            return True
        if library.unshare(new_user | new_network) != 0:
            return False
        for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path("/proc/self", name).write_text(line)
    except (AttributeError, TypeError, OSError):  # TypeError: Windows has no library of this process
        return os.path.exists("/proc/self/ns/net") and not _interfaces()
    return True


def _interfaces() -> list[str]:
    """Return the network interfaces beside the process's own loopback."""
    lines = Path("/proc/self/net/dev").read_text().splitlines()[2:]
    return [name for name in (line.split(":")[0].strip() for line in lines) if name != "lo"]


def memory_for(weights: int) -> int:
    """Return the bytes that a process may take for a model whose files have so many."""
    return ALLOWANCE + FOR_EACH_BYTE * weights


def limit(most: int) -> str:
    """Bound the addresses of this process, beside what its libraries take, and its files; return it in words.

    Args:
        most: bytes, see `memory_for`.
    """
    try:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + most, taken + most))
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError, AttributeError):
        return "not bounded, the system does not allow it"
    return f"the process may take {most / GIBIBYTE:.1f} GiB beside the libraries"


NETWORK = frozenset(
    (
        "socket.connect socket.getaddrinfo socket.gethostbyname socket.gethostbyaddr socket.getnameinfo "
        "socket.sendto socket.sendmsg"
    ).split()
)
PROCESSES = frozenset(
    (
        "subprocess.Popen os.exec os.posix_spawn os.spawn os.system os.startfile os.fork os.forkpty os.kill "
        "os.killpg resource.prlimit pty.spawn"
    ).split()
)
# event -> (place of a path among its arguments, place of the folder that the path starts from), for each path it changes
WRITES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.link": ((1, 3),),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.removexattr": ((0, None),),
    "os.rename": ((0, 2), (1, 3)),
    "os.rmdir": ((0, 1),),
    "os.setxattr": ((0, None),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
    "os.utime": ((0, 3),),
}
FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """An audit hook, for good: what it forbids is an error where it is tried, and is noted."""

    def __init__(self, work: Path, libraries: list[str], code: list[str]):
        """Begin to watch the network; `forbid` adds the rest, once the libraries are imported.

        Args:
            work: the one folder that may be written into.
            libraries: folders whose code may run, beside those of Python itself.
            code: sha256 of every file of the stranger's code that may run.
        """
        # What was tried and refused, by its kind.
        self.tried: dict[str, list[str]] = {"network": [], "processes": [], "writes": [], "code": []}
        self.ran: set[str] = set()  # files of code outside the libraries
        self._all = False
        self._work = os.path.realpath(work)
        trusted = [sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
        trusted += [os.path.dirname(os.path.abspath(__file__)), *libraries]
        self._libraries = tuple({os.path.realpath(path) + os.sep for path in trusted})
        self._code = {*code, hashlib.sha256(b"").hexdigest()}
        sys.addaudithook(self._hook)

    def forbid(self) -> None:
        """Forbid processes, writes outside the folder, and code that is not listed, too."""
        self._all = True

    def _hook(self, event: str, arguments: tuple) -> None:
        if event in NETWORK:
            self._refuse("network", f"{event} {arguments[-1] if event == 'socket.connect' else arguments[0]}")
        if not self._all:
            return
        if event in PROCESSES:
            self._refuse("processes", f"{event} {arguments[0] if arguments else ''}")
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & FOR_WRITING:
            self._refuse_write(event, arguments[0], None)
        elif event == "sqlite3.connect" and arguments[0] != ":memory:":  # a file, or an address that leads to one
            self._refuse("writes", f"{event} {arguments[0]}")
        elif event in WRITES:
            for position, start in WRITES[event]:
                self._refuse_write(event, arguments[position], None if start is None else arguments[start])
        elif event == "exec" and isinstance(arguments[0], CodeType):
            self._refuse_code(arguments[0].co_filename)
        elif event == "import" and arguments[1]:  # a module that is a compiled library
            self._refuse_code(arguments[1])
        elif event == "ctypes.dlopen" and arguments[0] and os.sep in os.fsdecode(arguments[0]):
            self._refuse_code(os.fsdecode(arguments[0]))

    def _refuse(self, kind: str, attempt: str) -> None:
        self.tried[kind].append(attempt[:200])
        raise OSError(f"not allowed here: {attempt[:200]}")

    def _refuse_write(self, event: str, path: Any, start: Any) -> None:
        if isinstance(path, int):
            return  # a file that is open already
        path = os.fsdecode(path)
        if isinstance(start, int) and start >= 0 and not os.path.isabs(path):
            path = os.path.join(os.path.realpath(f"/proc/self/fd/{start}"), path)
        target = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        if event in ("open", "os.truncate", "os.chmod"):
            target = os.path.realpath(path)  # these follow a link
        if target not in (os.devnull, self._work) and not target.startswith(self._work + os.sep):
            self._refuse("writes", f"{event} {path}")

    def _refuse_code(self, path: str) -> None:
        """Refuse a file that is neither of a library nor, by its content, one of the listed."""
        if path.startswith("<") or os.path.realpath(path).startswith(self._libraries):
            return
        try:
            with open(path, "rb") as file:
                known = hashlib.sha256(file.read()).hexdigest() in self._code
        except OSError:
            known = False
        if not known:
            self._refuse("code", path)
        self.ran.add(os.path.basename(path))

    def findings(self, alone: bool, bound: str) -> list[tuple[str, bool, str]]:
        """Return what was tried, and which of the bounds held.

        Args:
            alone: whether `leave_network` did.
            bound: what `limit` returned.
        """
        network = "in an empty network namespace" if alone else "without a network namespace: only Python was watched"
        held = {
            "network": f"never tried, {network}",
            "processes": "none was started through Python",
            "writes": "none outside the folders of the check through Python",
            "code": f"{len(self.ran)} files ran, all of them listed",
        }
        watched = [(kind, not tried, tried[0] if tried else held[kind]) for kind, tried in self.tried.items()]
        return [*watched, ("memory", True, bound)]
