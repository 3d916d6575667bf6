#!/usr/bin/env python3
"""killat.py CALLS UPTO WAIT SIZE: kills the gateway at the Nth use of each system call, N from 1 to UPTO, starts it again
and looks whether what it had acknowledged arrives. As killat of the exam's faults.py, whose parts it uses; but whether
the call was reached is told by the gateway's death: strace marks no call with INJECTED whose thread it kills."""
import json
import os
import random
import signal
import sys
import time

exam = os.environ["POSTERN_EXAM"]
sys.path.insert(0, exam)
import faults  # noqa: E402  (the exam's, beside its drive.py)


def case(sink, call, n, wait, size):
    """Returns whether the call was reached, the code of the reply, and how often the message arrived."""
    gateway = faults.Gateway()
    gateway.start()
    faults.Conn().send(b"k0")  # warm up
    before = len(sink.messages)
    trace = faults.attach(gateway, "%s:signal=KILL:when=%d" % (call, n))
    ident, code = b"k%d" % random.randrange(10**6, 10**7), None
    try:
        code = faults.Conn(10).send(ident, size)
    except (OSError, ValueError):
        pass
    end = time.time() + 1.5  # the call may come after the reply
    while gateway.p.poll() is None and time.time() < end:
        time.sleep(0.05)
    reached = gateway.p.poll() is not None
    trace.send_signal(signal.SIGINT)
    trace.wait()
    gateway.kill()
    gateway.start()

    def arrived():
        return [m for m in sink.messages[before:] if b"X-Exam-Id: " + ident in m.data]

    end = time.time() + wait
    while code == 250 and time.time() < end and not arrived():
        time.sleep(0.1)
    whole = [m for m in arrived() if b"END-" + ident + b"\r\n" in m.data]
    cut = len(arrived()) - len(whole)
    gateway.kill()
    return reached, code, len(whole), cut


def main(calls, upto, wait, size):
    sink = faults.Sink(faults.SINK[0], int(faults.SINK[1]))
    sink.start()
    out = {"cases": 0, "lost": 0, "truncated": 0, "acknowledged": 0, "twice": 0, "reached": {}}
    for call in calls.split(","):
        for n in range(1, upto + 1):
            reached, code, whole, cut = case(sink, call, n, wait, size)
            lost = code == 250 and not whole
            print(call, n, "killed" if reached else "not reached", "reply", code, "arrived", whole, "LOST" if lost else "ok", flush=True)
            out["lost"] += lost
            out["truncated"] += cut
            if not reached:
                break
            out["cases"] += 1
            out["acknowledged"] += code == 250
            out["twice"] += whole > 1
            out["reached"][call] = n
    print("killat", json.dumps(out))
    sys.stdout.flush()
    os._exit(0)


main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
