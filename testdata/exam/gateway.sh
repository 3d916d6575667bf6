# shellcheck shell=bash
# Common to run.sh and faults.sh: builds and starts the gateway, and ends it.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$root/testdata/exam
work=$(mktemp -d "${TMPDIR:-/tmp}/postern-exam.XXXXXX")
gateway="" stuck=0
export POSTERN_STATE=$work/state
# faults.py ends without flushing what it has written.
export PYTHONUNBUFFERED=1
mkdir -p "$POSTERN_STATE"

end_gateway() {
  if [[ -n $gateway ]]; then
    kill "$gateway" 2>/dev/null || true
    local left
    for ((left = 400; left > 0; left--)); do
      kill -0 "$gateway" 2>/dev/null || break
      sleep 0.1
    done
    if ((left == 0)); then
      echo "the gateway did not end within 40 s; where it stood:" >&2
      kill -QUIT "$gateway" 2>/dev/null || true
      stuck=1
    fi
    wait "$gateway" 2>/dev/null || true
    gateway=""
  fi
}
finish() {
  local status=$?
  end_gateway
  ((stuck == 0 || status != 0)) || status=1
  if ((status != 0)) && [[ -s $work/log ]]; then
    echo "--- last lines of the gateway's log" >&2
    if ((stuck)); then grep -A 40 '^goroutine\|^SIGQUIT' "$work/log" >&2; else tail -n 20 "$work/log" >&2; fi
  fi
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

need_exam() {
  exam=${POSTERN_EXAM:-}
  if [[ -z $exam || ! -f $exam/drive.py ]]; then
    echo "set POSTERN_EXAM to the folder with drive.py and manifest.jsonl" >&2
    exit 2
  fi
  if [[ -z ${POSTERN:-} ]]; then
    POSTERN=$work/postern
    (cd "$root" && CGO_ENABLED=0 go build -o "$POSTERN" ./cmd/postern)
  fi
  export POSTERN
  policy=$work/policy.toml
  cp "$here/policy.toml" "$here/accounts" "$work/"
}

# change KEY VALUE: sets one value of the policy; the key must stand in it.
change() {
  grep -q "$1 *= *\"[^\"]*\"" "$policy" || { echo "$policy has no $1" >&2; exit 2; }
  sed -i -E "s|($1 *= *)\"[^\"]*\"|\1\"$2\"|" "$policy"
}

take_ports() {
  local p
  for p; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null; then
      echo "port $p of 127.0.0.1 is taken" >&2
      exit 2
    fi
  done
}

# start_gateway starts it in the folder of its policy and waits for its greeting.
start_gateway() {
  (cd "$work" && exec "$POSTERN" serve --config "$policy") </dev/null >"$work/log" 2>&1 &
  gateway=$!
  local left line
  for ((left = 200; left > 0; left--)); do
    if line=$(exec 3<>/dev/tcp/127.0.0.1/2525 && read -r -t 5 line <&3 && echo "$line") 2>/dev/null; then
      [[ $line == 220* ]] && return 0
    fi
    kill -0 "$gateway" 2>/dev/null || break
    sleep 0.1
  done
  echo "the gateway did not come up" >&2
  exit 1
}
