#!/usr/bin/env bash
# held.sh POSTERN POLICY TOKEN: exits 0 when the gateway holds a message with
# this token, in its quarantine or in its queue.
set -u
held=$(
  "$1" quarantine list --json --limit 100000 --config "$2"
  "$1" queue list --json --config "$2"
)
[[ $held == *"$3"* ]] || [[ -n $("$1" quarantine list --json --text "$3" --body --config "$2") ]]
