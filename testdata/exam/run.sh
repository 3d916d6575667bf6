#!/usr/bin/env bash
# run.sh [drive.py's arguments]: starts Postern with policy.toml, runs the exam's
# driver against it and ends what it started.
#
# Without arguments it runs the profiles base, tls, auth-login and auth, and the
# attach cases of attach.txt. The exit code is the driver's: 0 when every case
# passes but those that differences.txt argues about. With --manifest or --json
# the driver alone judges.
#
# POSTERN_EXAM  folder of the exam (drive.py, manifest.jsonl, zone.json)
# POSTERN       a binary to test; else one is built
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/gateway.sh"

drive() { # drive ARGUMENTS...: one run of the driver, judged
  local status=0 result=$work/result.jsonl
  local -a judge=(--json "$result")
  for arg; do
    case $arg in --json | --json=* | --manifest | --manifest=*) judge=() ;; esac
  done
  rm -f "$result"
  python3 "$exam/drive.py" --in 127.0.0.1:2525 --out 127.0.0.1:2587 --sink 127.0.0.1:2600 --dns 127.0.0.1:5353 \
    --pid "$gateway" --held "$here/held.sh $POSTERN $policy {token}" "$@" "${judge[@]}" || status=$?
  if ((status > 1)) || ((${#judge[@]} == 0)) || [[ ! -s $result ]]; then
    return "$status"
  fi
  python3 "$here/differences.py" "$here/differences.txt" "$result"
}

need_exam
take_ports 2525 2587 2600 5353
start_gateway
if (($#)); then
  drive "$@"
  exit
fi
failed=0
drive --profile base,tls,auth-login || failed=1
drive --profile attach --settle 1 --only "$(sed 's/#.*//' "$here/attach.txt" | tr -s ' \n' ',' | sed 's/^,//; s/,$//')" || failed=1
drive --profile auth || failed=1
exit $failed
