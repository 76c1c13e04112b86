"""The sandbox: what a hostile program can reach, use and leave behind."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from localfusion.checks import Limits, Outcome, run, why_unavailable
from localfusion.checks.sandbox import SandboxError

TIGHT = Limits(cpu_seconds=2, wall_seconds=20.0)
STAYS = "import signal; signal.pause()"
# The parent of the last one ends at once, and it leads a session of its own.
LEAVES_A_STRAY = """
import os, signal
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        signal.pause()
    os._exit(0)
"""
TRIES = """
def tries(what):
    try:
        print("done:", what())
    except BaseException as error:
        print("refused:", type(error).__name__, error)
import os, signal, socket, ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(*numbers):
    if libc.syscall(*numbers) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
"""


@pytest.fixture(autouse=True)
def _confinement() -> None:
    reason = why_unavailable()
    assert reason is None, f"this host cannot confine programs, so nothing here is tested: {reason}"


def text(outcome: Outcome) -> str:
    return outcome.output.decode()


async def tried(what: str, setup: str = "") -> str:
    outcome = await run(f"{TRIES}{setup}\ntries(lambda: {what})\n")
    assert outcome.ended == "finished", text(outcome)
    return text(outcome).strip()


def family(of: psutil.Process) -> list[psutil.Process]:
    """Return the processes that run sandboxed programs for one process."""
    programs = []
    for child in of.children(recursive=True):
        try:
            if "/main.py" in child.cmdline():
                programs.append(child)
        except psutil.Error:
            continue
    return programs


async def started(count: int, of: psutil.Process | None = None) -> list[psutil.Process]:
    """Wait for so many processes of sandboxed programs; return them with their guards."""
    parent = of or psutil.Process()
    async with asyncio.timeout(30):
        while len(family(parent)) < count:  # noqa: ASYNC110  no event tells of it
            await asyncio.sleep(0)
    return [one for one in parent.children(recursive=True) if one.pid != os.getpid()]


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=10)
    return all(one.status() == psutil.STATUS_ZOMBIE for one in alive)


async def test_program_reads_its_input_and_its_output_comes_back() -> None:
    outcome = await run("print(input() * 2); raise SystemExit(3)", stdin=b"ab\n")

    assert (outcome.ended, outcome.code, outcome.output) == ("finished", 3, b"abab\n")


async def test_each_run_starts_with_an_empty_scratch_folder() -> None:
    source = "import os; print(os.listdir('.')); open('left', 'w').write('x')"

    first, second = await run(source), await run(source)

    assert first.output == second.output == b"[]\n"


async def test_environment_holds_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    outcome = await run("import os; print(sorted(os.environ))")

    assert b"HF_TOKEN" not in outcome.output
    assert b"'HOME'" in outcome.output


@pytest.mark.parametrize(
    ("source", "ended"),
    [
        ("while True: pass", "time"),
        ("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", "time"),
        ("x = bytearray(10**10)", "memory"),
        ("x = []\nwhile True: x.append(bytearray(1 << 20))", "memory"),
        ("while True: print('x' * 10000)", "output"),
        ("import sys\nwhile True: sys.stderr.write('x' * 10000)", "output"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed"),
        ("import os; os.abort()", "crashed"),
    ],
)
async def test_limits_end_a_program_and_the_outcome_says_which(source: str, ended: str) -> None:
    outcome = await run(source, limits=TIGHT)

    assert outcome.ended == ended
    assert len(outcome.output) <= TIGHT.output_bytes


async def test_wall_time_ends_a_program_that_only_waits() -> None:
    outcome = await run(STAYS, limits=Limits(wall_seconds=0.5))

    assert (outcome.ended, outcome.code) == ("time", None)


async def test_fork_bomb_hits_the_limit_of_processes_and_leaves_none() -> None:
    bomb = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"
    limits = Limits(cpu_seconds=1, wall_seconds=1.5, processes=6)

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run(bomb, limits=limits))
        processes = await started(6)
        most = len(family(psutil.Process()))

    assert running.result().ended == "time"
    assert most <= 6
    assert gone(processes)


async def test_processes_and_threads_are_counted_together() -> None:
    source = (
        "import threading\nstop = threading.Event()\nn = 0\n"
        "try:\n  while n < 50: threading.Thread(target=stop.wait).start(); n += 1\n"
        "except RuntimeError: pass\nprint(n); stop.set()"
    )

    outcome = await run(source, limits=Limits(processes=4))

    assert text(outcome) == "3\n"


async def test_a_large_file_and_many_files_are_refused() -> None:
    limits = Limits(file_bytes=1 << 20, files=16)
    source = f"{TRIES}\ntries(lambda: open('f', 'wb').write(bytes(2 << 20)))\n" + (
        "tries(lambda: [os.dup(1) for _ in range(30)])"
    )

    outcome = await run(source, limits=limits)

    assert text(outcome).count("refused: OSError") == 2


@pytest.mark.parametrize("folder", ["/", "/usr/lib", "/dev", "/home", "/proc/self"])
async def test_nothing_is_written_outside_scratch(folder: str) -> None:
    assert (await tried(f"open('{folder}/new', 'w')")).startswith("refused")


async def test_scratch_is_written_under_both_of_its_names() -> None:
    assert await tried("open('/tmp/a', 'w').write('x') + open('b', 'w').write('y')") == "done: 2"


async def test_no_file_of_the_host_is_there(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    names = ["/etc/shadow", "/etc/passwd", str(secret), str(Path.home()), "/run", "/proc", "/sys"]
    names += [str(Path.home() / ".cache"), str(Path(__file__).parent), "/var", "/bin/sh"]

    outcome = await run(f"import os\nfor one in {names!r}:\n  if os.path.exists(one): print(one)")

    # The home may be there as an empty folder above the interpreter; then nothing else is in it.
    assert set(text(outcome).split()) <= {str(Path.home())}
    shown = await tried(f"os.listdir({str(Path.home())!r})")
    assert shown.startswith("refused") or ".cache" not in shown


async def test_no_connection_reaches_our_listeners(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as named,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        named.bind(str(tmp_path / "engine.sock"))
        abstract.bind(b"\0localfusion-test-" + str(os.getpid()).encode())
        for server in (named, abstract):
            server.listen()
        source = (
            f"{TRIES}\ntries(lambda: socket.create_connection({tcp.getsockname()!r}))\n"
            + "".join(
                f"tries(lambda: socket.socket(socket.AF_UNIX).connect({one.getsockname()!r}))\n"
                for one in (named, abstract)
            )
        )
        outcome = await run(source)

        assert text(outcome).count("refused:") == 3
        for server in (tcp, named, abstract):
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.accept()


@pytest.mark.parametrize(
    "what",
    [
        "socket.socket(40, socket.SOCK_STREAM)",  # AF_VSOCK, which no namespace holds back
        "socket.socket(16, socket.SOCK_RAW)",  # netlink
        "socket.socket(socket.AF_INET, socket.SOCK_RAW)",
        "os.setuid(0)",
        "os.chroot('/scratch')",
        "libc.ptrace(16, 1, 0, 0) and os.setuid(0)",  # attach to init
        "libc.unshare(0x10000000) and os.setuid(0)",
        "libc.mount(b'none', b'/scratch', b'tmpfs', 0, None) and os.setuid(0)",
        "libc.ptrace(0, 0, 0, 0) and os.setuid(0)",
        "call(435, 0, 0)",  # clone3
        "call(425, 1, 0)",  # io_uring_setup
        "call(438, 1, 0, 0)",  # pidfd_getfd
    ],
)
async def test_what_might_lead_out_is_refused(what: str) -> None:
    assert (await tried(what)).startswith("refused")


async def test_signals_to_everyone_reach_no_one_outside() -> None:
    source = f"{TRIES}\nfor one in (-1, 1): tries(lambda: os.kill(one, signal.SIGKILL))"
    group = "import os, signal; os.kill(0, signal.SIGKILL)"

    async with asyncio.TaskGroup() as tasks:
        bystander = tasks.create_task(run("input(); print('lives')", stdin=b"\n"))
        sender = tasks.create_task(run(source))
        suicide = tasks.create_task(run(group))

    assert text(sender.result()).splitlines() == [
        "refused: ProcessLookupError [Errno 3] No such process",  # there is no one else
        "done: None",  # init takes no notice
    ]
    assert suicide.result().code == -signal.SIGKILL
    assert text(bystander.result()) == "lives\n"


async def test_program_has_no_rights_and_is_nobody_special() -> None:
    source = "import os; print(os.getuid(), os.getgid(), os.getgroups(), os.getpid())"

    assert text(await run(source)).split()[0] == "1000"


async def test_strays_end_with_the_program() -> None:
    waits = LEAVES_A_STRAY + "input()"

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(
            run(waits + "\nwhile True: pass", limits=Limits(cpu_seconds=1), stdin=b"\n")
        )
        processes = await started(2)

    assert running.result().ended == "time"
    assert gone(processes)


async def test_cancelling_kills_the_program_and_its_strays() -> None:
    task: asyncio.Task[Outcome] | None = None
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(run(LEAVES_A_STRAY + STAYS))
        processes = await started(2)
        task.cancel()

    assert task.cancelled()
    assert gone(processes)


async def test_cancelling_ends_a_program_that_floods_its_output() -> None:
    flood = "while True: print('x' * 10000, flush=True)"
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(run(flood, limits=Limits(output_bytes=1 << 30)))
        processes = await started(1)
        task.cancel()

    assert gone(processes)


async def test_programs_die_with_us_even_by_kill_9() -> None:
    source = LEAVES_A_STRAY + STAYS
    code = f"import asyncio; from localfusion.checks import run; asyncio.run(run({source!r}))"
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code)

    processes = await started(2, psutil.Process(parent.pid))
    parent.kill()
    await parent.wait()

    assert gone(processes)


async def test_killing_the_launcher_kills_the_sandbox_and_is_told() -> None:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(_refused(STAYS))
        processes = await started(1)
        next(one for one in processes if _is_launcher(one)).kill()

    assert "the launcher died" in running.result()
    assert gone(processes)


async def _refused(source: str) -> str:
    with pytest.raises(SandboxError) as caught:
        await run(source)
    return str(caught.value)


def _is_launcher(process: psutil.Process) -> bool:
    parent = process.parent()
    return parent is not None and parent.pid == os.getpid()


async def test_missing_package_is_named_with_its_remedy() -> None:
    with pytest.raises(SandboxError, match="pip install no_such_package"):
        await run("pass", packages=("no_such_package",))


async def test_host_that_refuses_namespaces_runs_nothing(tmp_path: Path) -> None:
    """A child of ours that may not make namespaces: a limit of none, which it cannot raise."""
    code = (
        "import asyncio, ctypes\n"
        "libc = ctypes.CDLL(None)\n"
        "assert libc.unshare(0x10000000) == 0\n"
        "open('/proc/sys/user/max_user_namespaces', 'w').write('0')\n"
        "from localfusion.checks import run, why_unavailable, SandboxError\n"
        "print(why_unavailable())\n"
        "try: print(asyncio.run(run('print(1)')))\n"
        "except SandboxError as error: print('refused', error.code)\n"
    )

    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await child.communicate()

    assert b"cannot confine a program: new namespaces" in output
    assert b"refused sandbox_unavailable" in output


async def test_user_without_rights_confines_as_well() -> None:
    """A child of ours that is user 1234 and no more than that."""
    code = (
        "import asyncio, ctypes, os\n"
        "assert ctypes.CDLL(None).unshare(0x10000000) == 0\n"
        "ids = '1234 0 1'\n"
        "for name, text in (('setgroups', 'deny'), ('uid_map', ids), ('gid_map', ids)):\n"
        "    with open(f'/proc/self/{name}', 'w') as file: file.write(text)\n"
        "assert os.geteuid() == 1234\n"
        "from localfusion.checks import run, why_unavailable\n"
        "print(why_unavailable())\n"
        "print(asyncio.run(run('import os; print(os.getuid(), os.listdir())')).output)\n"
    )

    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await child.communicate()

    assert output.decode().splitlines() == ["None", r"b'1000 []\n'"]


def test_probe_remembers() -> None:
    probe: Callable[[], str | None] = why_unavailable

    assert probe() is None
    assert why_unavailable.cache_info().hits > 0
