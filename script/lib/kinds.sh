# The kinds of tests.  A kind NAME is a function kind_NAME, called with the
# names of the tests to run (none: all of them) in a tree that is built and
# installed.  It calls `count PASSED FAILED` once or more, and prints what
# failed and why.  Add a kind: write its function, add its name to KINDS.

KINDS=(regress isolation tap pgtap clients monitoring chaos bench)

declare -A TITLE=([regress]=pg_regress [isolation]=isolation [tap]=TAP [pgtap]=pgTAP [clients]=clients [chaos]=chaos [bench]=benchmark)

count() {
  PASSED=$((PASSED + $1))
  FAILED=$((FAILED + $2))
}

INSTALLCHECK=() # further variables for installcheck

installcheck() {
  run_job as_runner make -C "$BUILD" --no-print-directory PG_CONFIG="$PG_CONFIG" "${INSTALLCHECK[@]}" installcheck "$@"
}

# Variables on make's command line choose one kind from installcheck.
kind_regress() {
  listed "$BUILD"/sql/*.sql REGRESS
  pg_regress "$BUILD" ISOLATION= TAP_TESTS= ${1:+REGRESS="$*"}
}

kind_isolation() {
  listed "$BUILD"/test/isolation/specs/*.spec ISOLATION
  pg_regress "$BUILD/output_iso" REGRESS= TAP_TESTS= ${1:+ISOLATION="$*"}
}

# A test that the Makefile doesn't list would never run, and nobody would know.
listed() {
  local variable=${!#} file name list
  list=$(as_runner make -C "$BUILD" -s PG_CONFIG="$PG_CONFIG" "print-$variable")
  while [ $# -gt 1 ]; do
    file=$1
    shift
    [ -e "$file" ] || continue
    name=$(basename "${file%.*}")
    [[ " $list " == *" $name "* ]] || {
      say "FAILED $name: not in the Makefile's $variable"
      count 0 1
    }
  done
}

# pg_regress OUTPUTDIR MAKE-ARGUMENT...: for both kinds of pg_regress tests.
# Until version 15, a psql or isolationtester that died was "ok" if its output
# was as expected.
pg_regress() {
  local dir=$1 log=$TMP/installcheck.log passed failed status=0
  shift
  installcheck "$@" >"$log" 2>&1 || status=$?
  read -r passed failed <<<"$(awk '
    /^(test|    ) .* \.\.\. / || /^(not )?ok [0-9]/ {
      good = (/\.\.\. ok / || /^ok/) && !/test process exited/
      if (good) passed++; else failed++
    }
    END { print passed + 0, failed + 0 }' "$log")"
  [ "$status" = 0 ] || [ "$failed" -gt 0 ] || failed=1
  if [ "$failed" -gt 0 ]; then
    if grep -E '\.\.\. FAILED|^not ok|test process exited' "$log"; then
      head -n 400 "$dir/regression.diffs" 2>/dev/null || true
    else
      tail -n 40 "$log"
      tail -n 40 "$dir"/log/*.log 2>/dev/null || true
    fi
  fi
  count "$passed" "$failed"
}

kind_tap() {
  local files log=$TMP/tap.log status=0 name
  find_files test/t .pl "$@"
  [ ${#files[@]} -gt 0 ] || return 0
  installcheck REGRESS= ISOLATION= PROVE_TESTS="${files[*]}" PROVE_FLAGS=-j2 >"$log" 2>&1 || status=$?
  prove_result "$log" "$status"

  # Prove has shown the assertions; what led there is in each test's own log.
  for name in $(sed -n 's/^test.t.\(.*\)\.pl .*(Wstat: .*/\1/p' "$log"); do
    say "--- the end of the log of $name"
    tail -n 60 "$BUILD/tmp_check/log/regress_log_$name" || true
  done
}

# Every file gets a database of its own.
kind_pgtap() {
  local files file db log=$TMP/pgtap.log status=0
  find_files test/pgtap .sql "$@"
  [ ${#files[@]} -gt 0 ] || return 0
  start_server server || { count 0 1; return; }
  psql -q -d template1 -c 'CREATE EXTENSION pgtap' -c 'CREATE EXTENSION eventsourcing' || { count 0 1; return; }
  : >"$log"
  for file in "${files[@]}"; do
    db=$(basename "$file" .sql)
    psql -q -d postgres -c "CREATE DATABASE \"$db\""
    (cd "$BUILD" && run_job as_runner pg_prove -d "$db" "$file") >>"$log" 2>&1 || status=$?
  done
  prove_result "$log" "$status"
  stop_servers
}

# find_files DIR SUFFIX NAME...: sets files to those whose names have one of the
# names in them, or to all.
find_files() {
  local dir=$1 suffix=$2 name found
  shift 2
  files=()
  [ $# -gt 0 ] || set -- ''
  for name; do
    found=$(cd "$BUILD" && compgen -G "$dir/*$name*$suffix" | sort) || true
    if [ -n "$found" ]; then
      mapfile -t -O ${#files[@]} files <<<"$found"
    elif [ -n "$name" ]; then
      say "FAILED: there is no $dir/*$name*$suffix"
      count 0 1
    fi
  done
}

# That the benchmark works, not how fast anything is: one short round of some
# workloads, or of those that are named.
kind_bench() {
  local workloads=("$@") name log=$TMP/bench.log
  [ $# -gt 0 ] || workloads=(append-new load-1000 capture-insert handler-1000)
  run_job "$ROOT/bench/run" --pg "$PGVER" --quick --rounds 1 "${workloads[@]/#/--workload=}" \
    --contestant ours,ours-capture,ours-handler --out "$TMP/bench.results" >"$log" 2>&1 || true
  for name in "${workloads[@]}"; do
    if grep -q "^SKIPPED ours[a-z-]*, $name:" "$log" || ! has_figure "$name" "$TMP/bench.results/some.md"; then
      tail -n 40 "$log"
      count 0 1
    else
      count 1 0
    fi
  done
}

# has_figure WORKLOAD FILE: whether there is one of ours in the workload's table.
has_figure() {
  local title
  title=$(awk -v name="[$1]" '$0 == name { here = 1 } here && /^title/ { sub(/.*= */, ""); print; exit }' "$ROOT/bench/workloads.ini")
  awk -v title="### $title" '/^### / { here = $0 == title } here && /^\| ours[a-z-]* \| \**[0-9]/ { found = 1 }
    END { exit !found }' "$2" 2>/dev/null
}

# prove_result LOG STATUS: count the assertions in what prove printed.  A file
# that died, or kept to no plan, counts as a failure if none of its assertions
# did.  Files that were skipped, and what was left out in others, are shown.
prove_result() {
  local log=$1 passed failed
  read -r passed failed <<<"$(awk '
    /\(Wstat: .* Tests: [0-9]+ Failed: [0-9]+\)/ {
      n = $0; sub(/.*Failed: /, "", n); n += 0
      bad += n
      died += (n == 0)
    }
    match($0, /^Files=[0-9]+, Tests=[0-9]+/) {
      n = $0; sub(/.*Tests=/, "", n); total += n
    }
    END { good = total - bad; print (good > 0 ? good : 0), bad + died }' "$log")"
  [ "$2" = 0 ] || [ "$failed" -gt 0 ] || failed=1
  if grep -E '\.\. skipped|^# NOTE: ' "$log"; then
    SKIPPED=1
  fi
  if [ "$failed" -gt 0 ]; then
    tail -n 200 "$log"
  fi
  count "$passed" "$failed"
}
