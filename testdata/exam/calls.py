#!/usr/bin/env python3
"""calls.py killat|inject CALLS UPTO WAIT SIZE: kills the gateway at the Nth use of each system call, or lets that use
fail with EIO, N from 1 to UPTO, and looks whether what it had acknowledged arrives. As killat and inject of the exam's
faults.py, whose parts it uses, but for two things. Whether a kill was reached is told by the gateway's death: strace
marks no call with INJECTED whose thread it kills. And only calls on files fail that the gateway has open: else it is
always a write of the Go runtime to its event descriptor that fails first, which ends the process."""
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

exam = os.environ["POSTERN_EXAM"]
sys.path.insert(0, exam)
import faults  # noqa: E402  (the exam's, beside its drive.py)

TRACE = os.path.join(os.environ.get("TMPDIR", "/tmp"), "calls.%d" % os.getpid())


def attach(gateway, call, how):
    """Starts strace, which writes what each descriptor is."""
    cmd = ["strace", "-f", "-q", "-y", "-o", TRACE, "-e", "trace=" + call, "-e", "inject=%s:%s" % (call, how)]
    for pid in faults.tree(gateway.p.pid):
        cmd += ["-p", str(pid)]
        for fd in os.listdir("/proc/%d/fd" % pid) if "error=" in how else ():
            try:
                file = os.readlink("/proc/%d/fd/%s" % (pid, fd))
            except FileNotFoundError:
                continue  # closed meanwhile
            if file.startswith("/"):
                cmd += ["-P", file]
    tracer = subprocess.Popen(cmd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.7)
    return tracer


def ended(gateway, seconds):
    """Whether the gateway ends within that time."""
    end = time.time() + seconds
    while gateway.p.poll() is None and time.time() < end:
        time.sleep(0.05)
    return gateway.p.poll() is not None


def case(sink, what, call, n, wait, size):
    """Returns what the call was used on (None: not reached), the reply, how often the message arrived whole and cut,
    and whether the gateway died of it."""
    gateway = faults.Gateway()
    gateway.start()
    faults.Conn().send(b"k0")  # warm up
    before = len(sink.messages)
    kill = what == "killat"
    tracer = attach(gateway, call, ("signal=KILL" if kill else "error=EIO") + ":when=%d" % n)
    ident, code = b"k%d" % random.randrange(10**6, 10**7), None
    try:
        code = faults.Conn(10).send(ident, size)
    except (OSError, ValueError):
        pass
    died = ended(gateway, 1.5)  # the call may come after the reply
    tracer.send_signal(signal.SIGINT)
    tracer.wait()
    used = call if kill and died else ""
    if not kill:  # strace counts each thread's uses, so that there may be several
        hits = re.findall(call + r"\(\d+<([^>]*)>.*\(INJECTED\)", open(TRACE, errors="replace").read())
        used = " ".join(sorted(set(hits)))
    if kill or died:
        gateway.kill()
        gateway.start()

    def arrived():
        return [m for m in sink.messages[before:] if b"X-Exam-Id: " + ident in m.data]

    end = time.time() + wait
    while code == 250 and time.time() < end and not arrived():
        time.sleep(0.1)
    whole = [m for m in arrived() if b"END-" + ident + b"\r\n" in m.data]
    cut = len(arrived()) - len(whole)
    try:
        serves = faults.Conn(20).send(b"k9") == 250
    except (OSError, ValueError):
        serves = False
    gateway.kill()
    return used, code, len(whole), cut, died, serves


def main(what, calls, upto, wait, size):
    sink = faults.Sink(faults.SINK[0], int(faults.SINK[1]))
    sink.start()
    out = {"cases": 0, "lost": 0, "truncated": 0, "acknowledged": 0, "twice": 0, "not serving afterwards": 0, "died": 0, "reached": {}}
    for call in calls.split(","):
        for n in range(1, upto + 1):
            used, code, whole, cut, died, serves = case(sink, what, call, n, wait, size)
            lost = code == 250 and not whole
            print(call, n, used or "not reached", "reply", code, "arrived", whole, "died" if died else "lives", "LOST" if lost else "ok" if serves else "DEAF", flush=True)
            out["lost"] += lost
            out["truncated"] += cut
            if not used:
                break
            out["cases"] += 1
            out["acknowledged"] += code == 250
            out["twice"] += whole > 1
            out["reached"][call] = n
            out["not serving afterwards"] += not serves
            out["died"] += died
    os.unlink(TRACE)
    print(what, json.dumps(out))
    sys.stdout.flush()
    os._exit(0)


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
