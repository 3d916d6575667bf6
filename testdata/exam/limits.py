#!/usr/bin/env python3
"""limits.py WHAT LIMITS: reads the last line of faults.py and exits 1 unless LIMITS holds for its result r."""
import json
import sys

what, limits = sys.argv[1:]
name, _, text = sys.stdin.read().strip().partition(" ")
if name != what:
    sys.exit("%s ended without a result" % what)
r = json.loads(text)
if not eval(limits, {}, {"r": r}):
    sys.exit("%s: beyond the limits: not (%s)" % (what, limits))
print("%s: within the limits" % what)
