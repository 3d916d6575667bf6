#!/usr/bin/env python3
"""differences.py DIFFERENCES RESULT: forgives the failures that are argued for.

DIFFERENCES has one case a line, with the reason; RESULT is what drive.py wrote with --json. Exits 0
when no other case failed. A case that is listed and passes is an error too: the list must be true.
"""
import json
import sys

argued = {}
for line in open(sys.argv[1]):
    line = line.split("#")[0].strip()
    if line:
        case, _, reason = line.partition(" ")
        argued[case] = reason.strip()
bad = 0
for line in open(sys.argv[2]):
    result = json.loads(line)
    case = result["id"]
    if result["verdict"] == "FAIL" and case in argued:
        print("%-9s differs as decided: %s" % (case, argued[case]))
    elif result["verdict"] == "FAIL":
        print("%-9s failed: %s" % (case, "; ".join(result["why"])))
        bad = 1
    elif case in argued:
        print("%-9s passes: take it off %s" % (case, sys.argv[1]))
        bad = 1
sys.exit(bad)
