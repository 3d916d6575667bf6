#!/usr/bin/env bash
# faults.sh WHAT...: runs faults.py of the exam against Postern and holds the
# result against the limits below. Needs root (strace, tmpfs). WHAT is one of
#
#   killloop  kill -9 under load, every message durable before its 250
#   direct    the same with cut-through delivery
#   killat    kill -9 at the Nth use of a system call: durable, small and large, and cut-through
#   inject    a system call fails at its Nth use
#   diskfull  the state lies on a file system of 64 MB that fills
#   idle      10,000 idle sessions
#   slow      clients that send an octet every 5 seconds
#   slowread  a client that never reads its replies
#   fds       128 file descriptors and 300 clients
#   big       30 messages of 20 MB at once
#
# ROUNDS (20) sets the rounds of killloop and direct, UPTO the largest N of inject
# (3, or 8) and killat (6), LIMIT (900) the seconds that one fault may take.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/gateway.sh"

(($#)) || { sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 2; }
need_exam
(($(id -u) == 0)) || { echo "faults.sh needs root" >&2; exit 2; }
export GW_IN=127.0.0.1:2525 GW_SINK=127.0.0.1:2600 GW_SPOOL=$POSTERN_STATE
# The names of the exam are answered from its zone: nothing serves DNS here.
export GW_START="$POSTERN serve --config $policy --dns $exam/zone.json"
ulimit -n "$(ulimit -Hn)"

# run LIMITS WHAT [ARGUMENTS]: LIMITS is a Python expression over r, the result.
run() {
  local limits=$1 what=$2
  shift 2
  take_ports 2525 2600
  rm -rf "$POSTERN_STATE"
  mkdir -p "$POSTERN_STATE"
  local script=$exam/faults.py
  [[ ${1:-} == -* || $# == 0 ]] || script=$here/calls.py
  (cd "$work" && timeout "${LIMIT:-900}" python3 "$script" "$what" "$@") | tee "$work/result"
  tail -n 1 "$work/result" | python3 "$here/limits.py" "$what" "$limits"
}

for what; do
  cp "$here/policy.toml" "$policy"
  change delivery spool
  case $what in
  killloop) run 'r["lost"] == 0 and r["truncated"] == 0 and r["acknowledged"] > 100' killloop --rounds "${ROUNDS:-20}" ;;
  direct)
    change delivery cut-through
    run 'r["lost"] == 0 and r["truncated"] == 0 and r["acknowledged"] > 100' killloop --rounds "${ROUNDS:-20}"
    ;;
  killat)
    calls=write,writev,pwrite64,fsync,fdatasync,openat,renameat,linkat,unlinkat,ftruncate,close
    ok='r["lost"] == 0 and r["truncated"] == 0 and r["cases"] >= 8'
    run "$ok" killat "$calls" "${UPTO:-6}" 15 2000
    run "$ok" killat "$calls" "${UPTO:-6}" 15 1000000 # it lies in a file
    change delivery cut-through
    run "$ok" killat "$calls" "${UPTO:-6}" 15 2000
    ;;
  inject)
    run 'r["lost"] == 0 and r["not serving afterwards"] == 0 and r["cases"] > 0' \
      inject --call fsync,fdatasync,pwrite64,openat,renameat,unlinkat --upto "${UPTO:-3}" --wait 6
    # The writes to files: the Go runtime does not survive that one of its own fails.
    run 'r["lost"] == 0 and r["died"] == 0 and r["not serving afterwards"] == 0 and r["cases"] >= 2' inject write,pwrite64,fsync "${UPTO:-8}" 6 2000
    change delivery cut-through
    run 'r["lost"] == 0 and r["died"] == 0 and r["not serving afterwards"] == 0 and r["cases"] >= 2' inject write,pwrite64,fsync "${UPTO:-8}" 6 2000
    ;;
  diskfull) run 'r["lost"] == 0 and r["after draining"] == 250 and r["acknowledged"] > 0 and not any(c.startswith("5") for c in r["replies"])' diskfull ;;
  idle) run 'r["held"] == 10000 and r["KB each"] <= 24 and r["new message reply"] == 250' idle --count 10000 ;;
  slow)
    change command 20s
    change data 30s
    run 'all(p["closed after (min, max)"][1] is not None and p["closed after (min, max)"][1] <= 45 for p in r.values())' slow --wait 60
    ;;
  slowread) run 'r["memory MB"] <= 16 and r["end"] != "took all"' slowread ;;
  fds) run 'r["cpu ticks in 3 s while starved"] <= 60 and r["afterwards"] == 250' fds ;;
  big) run 'list(r["codes"]) == ["250"] and r["peak MB"] <= 150' big --count 30 --mb 20 ;;
  *) echo "faults.sh: no $what" >&2; exit 2 ;;
  esac
done
