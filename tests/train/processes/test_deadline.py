"""What ends a process whose call to another one does not return: on time, with a line, and never by an abort."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from train.processes.deadline import Deadline

ROOT = Path(__file__).resolve().parents[3]
LIMITED = """
import sys, time
from train.processes.deadline import Deadline
limit = Deadline(1.0, lambda: "the others did not answer")
for _ in range(4):
    time.sleep(0.5)
    limit.extend()
print("extended", flush=True)
time.sleep(60)
"""


def test_it_ends_the_process_with_a_line_and_frozen_time_does_not_count():
    process = subprocess.Popen([sys.executable, "-c", LIMITED], cwd=ROOT, stdout=-1, stderr=-1, text=True)
    assert process.stdout.readline() == "extended\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    process.send_signal(signal.SIGCONT)
    started = time.monotonic()
    assert process.communicate()[1] == "error: the others did not answer\n"
    assert process.returncode == 1
    assert time.monotonic() - started > 0.5


def test_a_closed_one_ends_nothing():
    limit = Deadline(0.2, lambda: "never")
    limit.close()
    time.sleep(0.4)
    assert not limit.thread.is_alive()


HOLDER = """
import time
import torch.distributed as dist
store = dist.TCPStore("127.0.0.1", 0, 2, True, wait_for_workers=False)
print(store.port, flush=True)
time.sleep(60)
"""
# Taking the interpreter down lasts a second, in which the store's holder dies and the call to it returns.
ENDING = """
import sys, time, types
import torch.distributed as dist
from train import __main__
from train.processes import peers as alive
class Slow:
    def __del__(self, print=print, sleep=time.sleep):
        print("ending", flush=True)
        sleep(1.0)
slow = Slow()
watch = alive.Watch(1, 2, dist.TCPStore("127.0.0.1", int(sys.argv[1]), 2, False), 20.0)
time.sleep(2.5)
print("frozen?", flush=True)
time.sleep(1.5)
watch.close()
__main__.COMMANDS["nothing"], sys.modules["nothing"] = "nothing", types.SimpleNamespace(run=lambda words: 0)
code = __main__.main(["nothing"])
print("orderly", watch.thread.is_alive(), flush=True)
sys.exit(code)
"""


def test_a_process_that_waits_for_a_frozen_store_ends_without_an_abort():
    with subprocess.Popen([sys.executable, "-c", HOLDER], cwd=ROOT, stdout=-1, text=True) as holder:
        port = holder.stdout.readline().strip()
        process = subprocess.Popen([sys.executable, "-c", ENDING, port], cwd=ROOT, stdout=-1, text=True)
        assert process.stdout.readline() == "frozen?\n"
        holder.send_signal(signal.SIGSTOP)
        said = process.stdout.readline()
        if said:  # how it went before: the end of the interpreter, in the middle of the call
            assert process.stdout.readline() == "ending\n"
        holder.kill()
        process.communicate()
    assert said == ""
    assert process.returncode == 0
