"""The process that uses a stranger's folder: what it must not do is refused and found, and nothing of it stays behind."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from train.hub.check import confine

CHILD = """
import hashlib, importlib.util, json, os, sys
sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location("confine", {confine!r})
confine = importlib.util.module_from_spec(spec)
spec.loader.exec_module(confine)
work, outside = {work!r}, {outside!r}
import ctypes, pty, resource, runpy, socket, sqlite3, subprocess
alone = {alone}
watch = confine.Watch(work, [], [hashlib.sha256(open(work + "/listed.py", "rb").read()).hexdigest()])
watch.forbid()
try:
    {code}
    said = "done"
except OSError as error:
    said = str(error)
print(json.dumps([said, watch.findings(alone, "")]))
"""


@pytest.fixture
def child(tmp_path):
    """Return a function that runs a line of Python under the watch, and returns what it said and what was found."""
    work, outside = tmp_path / "work", tmp_path / "outside"
    work.mkdir()
    outside.mkdir()
    (work / "listed.py").write_text("x = 1\n")
    (work / "other.py").write_text("x = 2\n")
    (outside / "file").write_text("as it was")
    (work / "way_out").symlink_to(outside)

    def run(code: str, alone: str = "False"):
        values = {"confine": confine.__file__, "work": str(work), "outside": str(outside)}
        done = subprocess.run(
            [sys.executable, "-I", "-c", CHILD.format(code=code, alone=alone, **values)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said, found = json.loads(done.stdout)
        assert sorted(path.name for path in outside.iterdir()) == ["file"]
        assert (outside / "file").read_text() == "as it was"
        return said, {name: (held, detail) for name, held, detail in found}

    return run


REFUSED = {
    "network": [
        "socket.create_connection(('127.0.0.1', 9))",
        "socket.getaddrinfo('localhost', 80)",
        "socket.gethostbyaddr('127.0.0.1')",
        "socket.getnameinfo(('127.0.0.1', 9), 0)",
        "socket.socket(socket.AF_UNIX).connect(work + '/s')",
        "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
    ],
    "processes": [
        "subprocess.run(['true'])",
        "os.system('true')",
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "os.posix_spawn('/bin/true', ['true'], {{}})",
        "pty.spawn(['true'])",
        "os.kill(os.getppid(), 0)",
        "os.killpg(os.getpgid(os.getppid()), 0)",
        "resource.prlimit(os.getppid(), resource.RLIMIT_CORE)",
    ],
    "writes": [
        "open(outside + '/new', 'w')",
        "open(outside + '/file', 'r+')",
        "os.open(outside + '/new', os.O_CREAT)",
        "open(work + '/way_out/new', 'a')",
        "open(work + '/../outside/new', 'w')",
        "os.remove(outside + '/file')",
        "os.rename(outside + '/file', work + '/taken')",
        "os.rename(work + '/other.py', outside + '/new')",
        "os.symlink(work, outside + '/new')",
        "os.link(work + '/other.py', outside + '/new')",
        "os.mkdir(outside + '/new')",
        "os.mkdir('new', dir_fd=os.open(outside, os.O_RDONLY))",
        "os.truncate(outside + '/file', 0)",
        "os.chmod(outside + '/file', 0o777)",
        "os.removexattr(outside + '/file', 'user.x')",
        "sqlite3.connect(outside + '/new')",
        "sqlite3.connect('file:' + outside + '/new', uri=True)",
    ],
    "code": [
        "runpy.run_path(work + '/other.py')",
        "ctypes.CDLL(work + '/x.so')",
        "sys.path.insert(0, work); import other",
    ],
}


@pytest.mark.parametrize(("kind", "code"), [(kind, code) for kind, codes in REFUSED.items() for code in codes])
def test_what_is_forbidden_is_refused_and_found(child, kind, code):
    said, found = child(code.format())
    assert said.startswith("not allowed here: "), said
    assert {name for name, (held, _) in found.items() if not held} == {kind}


def test_what_a_visit_needs_is_allowed(child):
    code = """open(work + '/a', 'w').close(); os.mkdir(work + '/b'); os.rename(work + '/a', work + '/b/a')
    open(os.devnull, 'w').close(); open(outside + '/file').close()
    runpy.run_path(work + '/listed.py'); exec(compile('x = 1', '<string>', 'exec'))"""
    said, found = child(code)
    assert said == "done"
    assert all(held for held, _ in found.values())
    assert found["code"][1] == "1 files ran, all of them listed"
    assert "without a network namespace: only Python was watched" in found["network"][1]


@pytest.mark.skipif(
    subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode != 0
    if sys.platform == "linux"
    else True,
    reason="this system gives no network namespace to a user",
)
def test_in_a_namespace_of_its_own_not_even_a_library_reaches_this_machine():
    code = """
import importlib.util, os, socket
spec = importlib.util.spec_from_file_location("confine", {confine!r})
confine = importlib.util.module_from_spec(spec)
spec.loader.exec_module(confine)
print(confine.leave_network(), os.getuid(), socket.socket().connect_ex(("127.0.0.1", {port})))
"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        words = [sys.executable, "-c", code.format(confine=confine.__file__, port=server.getsockname()[1])]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert said[:2] == ["True", str(os.getuid())]
    assert said[2] != "0"


def test_when_the_time_is_over_the_process_ends_with_all_that_it_started(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, subprocess, sys, time\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(other.pid))\n"
        "time.sleep(60)\n"
    )
    started = time.monotonic()
    code, said = confine.run([str(script)], tmp_path, confine.Deadline(2))
    assert (code, said) == (-1, "not done after 2 seconds")
    assert time.monotonic() - started < 20
    state = Path("/proc", (tmp_path / "pid").read_text(), "status")
    for _ in range(50):
        if not state.exists() or "zombie" in state.read_text():
            return
        time.sleep(0.1)
    raise AssertionError("the process that it started goes on")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no process becomes the parent of orphans")
@pytest.mark.parametrize("code", ["sys.exit(0)", "time.sleep(60)"])
def test_what_leaves_the_session_ends_too(tmp_path, code):
    """A second child is that of nobody: its parent is gone before the time is over."""
    forks = "import os, time; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); time.sleep(60)"
    pids = tmp_path / "pids"
    forks = forks.replace("time.sleep", f"open({str(pids)!r}, 'a').write(f'{{os.getpid()}} '); time.sleep")
    script = tmp_path / "script.py"
    script.write_text(
        "import subprocess, sys, time\n"
        f"for _ in range(2): subprocess.Popen([sys.executable, '-c', {forks!r}], start_new_session=True)\n"
        f"while len(open({str(pids)!r}, 'a+').read() or open({str(pids)!r}).read().split()) < 2: time.sleep(0.1)\n"
        f"{code}\n"
    )
    mine = subprocess.Popen(["sleep", "60"])
    try:
        confine.run([str(script)], tmp_path, confine.Deadline(5))
        assert mine.poll() is None
    finally:
        mine.kill()
        mine.wait()
    left = [Path("/proc", pid, "status") for pid in pids.read_text().split()]
    assert len(left) == 2
    assert not [path for path in left if path.exists() and "zombie" not in path.read_text()]


def test_nothing_of_the_environment_but_what_is_needed_reaches_the_process(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    script = tmp_path / "script.py"
    script.write_text("import os, sys\nsys.exit(' '.join(os.environ.values()))\n")
    code, said = confine.run([str(script)], tmp_path, confine.Deadline(20))
    assert code == 1 and "hf_secret" not in said and str(tmp_path / "home") in said


def test_a_process_says_how_it_ended_however_much_it_says(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys\nsys.stderr.write('x' * 10**7 + chr(10) + 'the end')\nsys.exit(3)\n")
    assert confine.run([str(script)], tmp_path, confine.Deadline(20)) == (3, "the end")
