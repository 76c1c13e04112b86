"""The launcher of one sandboxed program: builds the sandbox, runs the program in it, reports.

``python -I -S launcher.py PARENT_PID JOB``, JOB being `Job` as JSON; standard input is the
program's source, ``job.source_bytes`` long, and then the program's own standard input. Standard
output is the program's output; the one line on standard error is ours: ``ended`` with how, or
``refused`` with what the host does not give. Standard library only. Three processes:

- the launcher stays outside, keeps the wall time, and kills the sandbox by its init; it dies with
  its parent, even by ``kill -9``;
- init is process 1 of the new namespaces: it mounts the sandbox's few files, gives up every right
  and dies with the launcher; when it ends, the kernel kills whatever is left in the sandbox;
- the program, its child.

Every step is checked: a sandbox that is not whole runs nothing.
"""

import ctypes
import json
import os
import resource
import select
import signal
import struct
import sys
import time

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
NEW_MOUNTS, NEW_CGROUPS, NEW_NAMES, NEW_IPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
NEW_USERS, NEW_PIDS, NEW_NET = 0x10000000, 0x20000000, 0x40000000
NAMESPACES = NEW_MOUNTS | NEW_CGROUPS | NEW_NAMES | NEW_IPC | NEW_USERS | NEW_PIDS | NEW_NET
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 0x1000, 0x4000, 0x40000
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC = 1, 2, 4, 8
AT_FDCWD, AT_RECURSIVE, MNT_DETACH = -100, 0x8000, 2

INSIDE_ID = 1000
"""User and group of the program inside the sandbox."""
NOBODY = 65534
"""The same outside, where the launcher is root: root itself would pass the limit of processes."""

# System calls of both architectures have one number from 424 on. The rest of the numbers:
# arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of Linux 6.
NUMBERS: dict[str, tuple[int, int, int, int, tuple[int, ...]]] = {
    # machine: audit architecture, clone, pivot_root, socket, and what no program needs: mount,
    # umount2, pivot_root, unshare, setns, ptrace, process_vm_readv and writev, keyctl, add_key,
    # request_key, bpf, perf_event_open, userfaultfd, open_by_handle_at, kcmp, acct, personality
    "x86_64": (
        0xC000003E,
        56,
        155,
        41,
        (165, 166, 155, 272, 308, 101, 310, 311, 250, 248, 249, 321, 298, 323, 304, 312, 163, 135),
    ),
    "aarch64": (
        0xC00000B7,
        220,
        41,
        198,
        (40, 39, 41, 97, 268, 117, 270, 271, 219, 217, 218, 280, 241, 282, 265, 272, 89, 92),
    ),
}
MOUNT_SETATTR, CLONE3 = 442, 435
REFUSED_EVERYWHERE = (425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 440, 442)
"""io_uring, the new mount calls, pidfd_getfd, process_madvise."""
FAMILIES = (1, 2, 10)
"""Unix, IPv4 and IPv6, all empty in here; others, such as AF_VSOCK, know no namespaces."""

_libc = ctypes.PyDLL(None, use_errno=True)
"""PyDLL, since clone returns twice: the child must hold the interpreter's lock."""


class RefusedError(Exception):
    """The host does not give what the sandbox needs."""


def main() -> None:
    parent, job = int(sys.argv[1]), json.loads(sys.argv[2])
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    try:
        _call("prctl(PDEATHSIG)", _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
        if os.getppid() != parent:  # it died before the death signal was set
            sys.exit(1)
        _write("/proc/self/oom_score_adj", "1000")  # if memory runs out, we go first
        report = _supervise(job)
    except (RefusedError, OSError) as error:
        report = f"refused {error}"
    os.write(2, f"{report}\n".encode())


def _supervise(job: dict[str, object]) -> str:
    """Run the job and return the report; afterwards nothing of the sandbox is left."""
    machine = os.uname().machine
    if machine not in NUMBERS:
        raise RefusedError(f"the sandbox knows {' and '.join(NUMBERS)}, this machine is {machine}")
    alive, told = os.pipe(), os.pipe()
    source = _read_source(int(str(job["source_bytes"])))
    is_root = os.geteuid() == 0
    user, group = os.geteuid(), os.getegid()
    deadline = time.monotonic() + float(str(job["wall_seconds"]))
    init = _call(
        "new namespaces",
        _libc.syscall(NUMBERS[machine][1], NAMESPACES | signal.SIGCHLD, 0, 0, 0, 0),
    )
    if init == 0:
        os.close(alive[1])
        os.close(told[0])
        _be_init(job, source, machine, (alive[0], told[1]))
    os.close(alive[0])
    os.close(told[1])
    try:
        _map_ids(init, user, group, is_root=is_root)
        os.write(alive[1], b"g")
        is_late = _wait(init, deadline)
    except BaseException:
        _kill(init)
        raise
    report = os.read(told[0], 4096).decode(errors="replace")
    if report.startswith("refused"):
        return report
    if is_late is not None:
        return f"ended {is_late} 0 0"
    return report or "ended killed 9 0"


def _read_source(size: int) -> bytes:
    pieces = []
    while size > 0:
        piece = os.read(0, min(size, 1 << 16))
        if not piece:
            raise RefusedError("the source ended early")
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _map_ids(init: int, user: int, group: int, *, is_root: bool) -> None:
    """Give the sandbox its users: root's sandbox has root, to mount, and nobody, to run as."""
    if is_root:
        users = groups = f"0 0 1\n{INSIDE_ID} {NOBODY} 1\n"
    else:
        users, groups = f"{INSIDE_ID} {user} 1\n", f"{INSIDE_ID} {group} 1\n"
        _write(f"/proc/{init}/setgroups", "deny")
    _write(f"/proc/{init}/uid_map", users)
    _write(f"/proc/{init}/gid_map", groups)


def _wait(init: int, deadline: float) -> str | None:
    """Wait for init's end, or kill it; return ``time`` or ``stopped`` if that was needed."""
    while True:
        came = signal.sigtimedwait(
            {signal.SIGCHLD, signal.SIGTERM}, max(0.0, deadline - time.monotonic())
        )
        if came is not None and came.si_signo == signal.SIGCHLD:
            if os.waitpid(init, os.WNOHANG)[0]:
                return None
            continue
        _kill(init)
        return "time" if came is None else "stopped"


def _kill(init: int) -> None:
    os.kill(init, signal.SIGKILL)
    os.waitpid(init, 0)  # returns once every process of its namespace is gone


def _be_init(job: dict[str, object], source: bytes, machine: str, ends: tuple[int, int]) -> None:
    """Build the sandbox, run the program, tell how it ended; never returns."""
    alive, told = ends
    try:
        os.read(alive, 1)  # until our users are mapped
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # without a handler the kernel shields init
        _build(job, source, machine)
        _give_up_rights()
        os.set_blocking(alive, False)
        if select.select([alive], [], [], 0)[0]:  # the launcher died before the death signal
            os._exit(1)
        program = os.fork()
        if program == 0:
            _become_program(job, machine)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        report = _await(program)
    except (RefusedError, OSError) as error:
        report = f"refused {error}"
    os.write(told, report.encode())
    os._exit(0)


def _await(program: int) -> str:
    while True:
        pid, status, usage = os.wait4(-1, 0)
        if pid == program:
            seconds = usage.ru_utime + usage.ru_stime
            if os.WIFSIGNALED(status):
                return f"ended killed {os.WTERMSIG(status)} {seconds:.3f}"
            return f"ended exited {os.WEXITSTATUS(status)} {seconds:.3f}"


def _build(job: dict[str, object], source: bytes, machine: str) -> None:
    """Make an empty memory file system the root, with the job's files in it, all read-only."""
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    _mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=8m")
    os.mkdir("/tmp/old")
    _call("pivot_root", _libc.syscall(NUMBERS[machine][2], b"/tmp", b"/tmp/old"))
    os.chdir("/")
    for inside, outside in _pairs(job["files"]):
        _bind(outside, inside, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV)
    for link, target in _pairs(job["links"]):
        os.makedirs(os.path.dirname(link), exist_ok=True)
        os.symlink(target, link)
    for device in ("null", "zero", "urandom"):
        _bind(f"/dev/{device}", f"/dev/{device}", ATTR_NOSUID | ATTR_NOEXEC)
    with open("/main.py", "wb") as file:
        file.write(source)
    os.mkdir("/scratch")
    size = f"mode=0777,size={job['scratch_bytes']},nr_inodes=1024"
    _mount("tmpfs", "/scratch", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, size)
    os.symlink("/scratch", "/tmp")
    _call("umount of the host's files", _libc.umount2(b"/old", MNT_DETACH))
    os.rmdir("/old")
    _restrict("/", ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV, recursive=False)
    os.chdir("/scratch")


def _bind(outside: str, inside: str, attributes: int) -> None:
    source = "/old" + outside
    os.makedirs(os.path.dirname(inside), exist_ok=True)
    if os.path.isdir(source):
        os.makedirs(inside, exist_ok=True)
    else:
        os.close(os.open(inside, os.O_CREAT | os.O_WRONLY, 0o644))
    _mount(source, inside, None, MS_BIND | MS_REC)
    _restrict(inside, attributes, recursive=True)


def _restrict(path: str, attributes: int, *, recursive: bool) -> None:
    # One call for all mounts below as well: remounting would leave those writable.
    wanted = struct.pack("QQQQ", attributes, 0, 0, 0)
    flags = AT_RECURSIVE if recursive else 0
    done = _libc.syscall(MOUNT_SETATTR, AT_FDCWD, path.encode(), flags, wanted, len(wanted))
    _call(f"read-only {path} (mount_setattr, Linux 5.12)", done)


def _give_up_rights() -> None:
    """Drop every capability for good, become the sandbox's user, and die with the launcher."""
    capability = 0
    while _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    if capability < 38:
        raise RefusedError("capabilities cannot be dropped")
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(INSIDE_ID, INSIDE_ID, INSIDE_ID)
        os.setresuid(INSIDE_ID, INSIDE_ID, INSIDE_ID)
    ambient = _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _call("prctl(CAP_AMBIENT)", ambient)
    version_3 = struct.pack("Ii", 0x20080522, 0)
    _call("capset", _libc.capset(version_3, bytes(24)))
    _call("prctl(NO_NEW_PRIVS)", _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _call("prctl(DUMPABLE)", _libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
    # Last: a change of user would clear it.
    _call("prctl(PDEATHSIG)", _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))


def _become_program(job: dict[str, object], machine: str) -> None:
    """Set the limits and run the program; never returns."""
    try:
        os.setsid()
        os.dup2(1, 2)
        for name, limit in _pairs(job["limits"]):
            wanted = (int(limit), int(limit))
            if name == "CPU":  # the hard limit is for those that catch the soft one's signal
                wanted = (int(limit), int(limit) + 1)
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), wanted)
        os.closerange(3, 1 << 12)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        _filter_system_calls(machine)
        argv = [str(part) for part in _list(job["argv"])]
        os.execve(argv[0], argv, dict(_pairs(job["env"])))
    except (RefusedError, OSError) as error:
        os.write(1, f"cannot run the program: {error}\n".encode())
    os._exit(127)


def _filter_system_calls(machine: str) -> None:
    """Install a seccomp filter; a program of another architecture, or its calls, is killed.

    Source: Documentation/userspace-api/seccomp_filter.rst of Linux 6.
    """
    architecture, clone, _, socket, refused = NUMBERS[machine]
    load, equal, at_least, has_bits, give = 0x20, 0x15, 0x35, 0x45, 0x06
    kill, allow, error = 0x80000000, 0x7FFF0000, 0x00050000
    eperm, enosys, eafnosupport = error | 1, error | 38, error | 97
    steps: list[tuple[int, int, int, int]] = [
        (load, 0, 0, 4),
        (equal, 1, 0, architecture),
        (give, 0, 0, kill),
        (load, 0, 0, 0),
        (at_least, 0, 1, 0x40000000),  # x86's other numbering of the same calls
        (give, 0, 0, kill),
    ]
    for number in (*refused, *REFUSED_EVERYWHERE):
        steps += [(equal, 0, 1, number), (give, 0, 0, eperm)]
    steps += [(equal, 0, 1, CLONE3), (give, 0, 0, enosys)]  # its flags are out of a filter's sight
    steps += [(equal, 0, 4, clone), (load, 0, 0, 16), (has_bits, 0, 1, NAMESPACES)]
    steps += [(give, 0, 0, eperm), (give, 0, 0, allow)]
    steps += [(equal, 0, 2 + len(FAMILIES), socket), (load, 0, 0, 16)]
    steps += [(equal, len(FAMILIES) - place, 0, one) for place, one in enumerate(FAMILIES)]
    steps += [(give, 0, 0, eafnosupport), (give, 0, 0, allow)]
    code = b"".join(struct.pack("HBBI", op, yes, no, value) for op, yes, no, value in steps)
    program = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program))
    _call("seccomp", _libc.prctl(PR_SET_SECCOMP, 2, header, 0, 0))


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    words = [None if word is None else word.encode() for word in (source, target, kind)]
    done = _libc.mount(*words, ctypes.c_ulong(flags), data.encode() or None)
    _call(f"mount {target}", done)


def _call(what: str, result: int) -> int:
    if result < 0:
        raise RefusedError(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise RefusedError(f"not a list: {value!r}")
    return value


def _pairs(value: object) -> list[tuple[str, str]]:
    return [(str(pair[0]), str(pair[1])) for pair in _list(value) if isinstance(pair, list)]


if __name__ == "__main__":
    main()
