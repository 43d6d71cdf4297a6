# The checks of script/check.  A check NAME is a function check_NAME, called with
# the tests to run, each "KIND [NAME...]" (none: its own choice).  It builds what
# it needs, and counts as the kinds of tests do.

CHECKS=(valgrind sanitize asserts coverage calls)

CALL_SECONDS=60

# run_tests KIND-AND-NAMES...
run_tests() {
  local test words passed failed
  for test; do
    passed=$PASSED failed=$FAILED
    read -ra words <<<"$test"
    [[ " ${KINDS[*]} " == *" ${words[0]} "* ]] || die "there is no kind of tests called ${words[0]}"
    "kind_${words[0]}" "${words[@]:1}"
    say "  $test: $((PASSED - passed)) passed, $((FAILED - failed)) failed"
  done
}

# fresh_build [SETTING...]: into a folder that the last check has used.
fresh_build() {
  rm -rf "$TMP/build" "$TMP/dest"
  build "$@" || {
    say "FAILED: the build"
    count 0 1
    return 1
  }
}

# wrap_server PROGRAM: a folder like the server's bin/, where postgres is a script
# that runs PROGRAM, and the servers of the tests from there.
wrap_server() {
  local bin real
  bin=$TMP/bin real=$("$PG_CONFIG" --bindir)
  rm -rf "$bin"
  mkdir "$bin"
  ln -s "$real"/* "$bin"
  rm "$bin/postgres"
  say "#!/bin/sh" >"$bin/postgres"
  say "$1" >>"$bin/postgres"
  # pg_ctl looks for the postgres beside itself, and follows links before.
  rm "$bin/pg_ctl"
  cp "$real/pg_ctl" "$bin"
  chmod 755 "$bin" "$bin/postgres"
  INSTALLCHECK=("bindir=$bin") SERVER_BIN=$bin
}

# report WHAT FILE: a file with nothing in it is a check passed.
report() {
  if [ -s "$2" ]; then
    say "FAILED $1"
    head -n 200 "$2"
    count 0 1
    KEEP=1
  else
    count 1 0
  fi
}

# Valgrind sees what is asked of malloc and mmap, not the single palloc.
check_valgrind() {
  local logs=$TMP/valgrind
  need_packages valgrind || { count 0 1; return; }
  [ $# -gt 0 ] || set -- regress
  fresh_build "log_statement = all" || return
  rm -rf "$logs"
  mkdir -m 777 "$logs"
  wrap_server "exec valgrind --quiet --leak-check=no --error-limit=no --num-callers=40 --trace-children=yes \\
  --suppressions='$ROOT/test/valgrind.supp' --log-file='$logs/%p' '$("$PG_CONFIG" --bindir)/postgres' \"\$@\""
  # Everything takes some thirty times as long.
  export PG_TEST_TIMEOUT_DEFAULT=1800 PGCTLTIMEOUT=600
  ES_TEST_TOOL=valgrind run_tests "$@"
  unset PG_TEST_TIMEOUT_DEFAULT PGCTLTIMEOUT
  INSTALLCHECK=() SERVER_BIN=
  # A report is a paragraph; our functions are those that the library has.
  nm "$BUILD/eventsourcing.so" | awk '$2 ~ /^[tT]$/ { print $3 }' >"$TMP/functions"
  cat "$logs"/* | sed 's/^==[0-9]*== \?//' | perl -00 -ne '
    BEGIN { local $/; open my $in, "<", shift or die; @ours{split " ", <$in>} = () }
    print if grep { exists $ours{$_} } /0x[0-9A-F]+: (\w+) \(\w+\.c:\d+\)/g' "$TMP/functions" - >"$TMP/valgrind.ours"
  report "valgrind: reports from our library" "$TMP/valgrind.ours"
}

# The server is not built with it, so the runtime is loaded before anything else.
check_sanitize() {
  local logs=$TMP/sanitize runtime
  [ $# -gt 0 ] || set -- regress
  runtime=$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libubsan.so)
  # Not with the C library of Debian 12, where the server hangs with it.
  ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD=$runtime timeout 60 "$("$PG_CONFIG" --bindir)/postgres" -V >"$TMP/asan.log" 2>&1 || {
    say "FAILED sanitize: the server doesn't run with AddressSanitizer here; try --in-chroot 17"
    tail -n 5 "$TMP/asan.log"
    count 0 1
    return
  }
  COPT="-O1 -fno-omit-frame-pointer -fsanitize=address,undefined" fresh_build || return
  rm -rf "$logs"
  mkdir -m 777 "$logs"
  wrap_server "export LD_PRELOAD='$runtime'
export ASAN_OPTIONS=detect_leaks=0:log_path=$logs/report
export UBSAN_OPTIONS=print_stacktrace=1:log_path=$logs/report
exec '$("$PG_CONFIG" --bindir)/postgres' \"\$@\""
  ES_TEST_TOOL="a sanitizer" run_tests "$@"
  INSTALLCHECK=() SERVER_BIN=
  find "$logs" -type f -exec cat {} + >"$TMP/sanitize.reports"
  report "sanitize: reports" "$TMP/sanitize.reports"
}

# Assertions end the backend.  A server without them has what they call, and the
# same structs.
check_asserts() {
  [ $# -gt 0 ] || set -- regress isolation tap
  COPT="-Werror -DUSE_ASSERT_CHECKING" fresh_build || return
  run_tests "$@"
}

# Written when a backend ends; what a test kills is lost.
check_coverage() {
  local total
  [ $# -gt 0 ] || set -- regress isolation tap pgtap
  COPT="-O0 --coverage" fresh_build || return
  run_tests "$@"
  (cd "$BUILD" && as_runner gcov -n -f -o src src/*.c) >"$TMP/gcov" 2>/dev/null || true
  # "Function 'f'" or "File 'f'", then "Lines executed:12.34% of 56"
  perl -ne '
    /^(Function|File) .(.*).$/ and ($kind, $name) = ($1, $2);
    if (my ($percent, $lines) = /^Lines executed:([\d.]+)% of (\d+)/) {
      if ($kind eq "File" && $name =~ m{^src/}) { push @files, [ $name, $percent, $lines ]; $all += $lines; $run += $percent * $lines / 100 }
      push @never, $name if $kind eq "Function" && $percent == 0;
      $kind = "";
    }
    /^No executable lines/ and $kind = "";
    END {
      printf "  %6.2f%% of %5d  %s\n", @$_[1, 2, 0] foreach sort { $a->[1] <=> $b->[1] } @files;
      print "  functions that no test reaches: @{[ sort @never ]}\n";
      printf "%.2f%% of %d lines\n", $all ? 100 * $run / $all : 0, $all;
    }' "$TMP/gcov"
}

# The TAP test, which calls for a moment with one seed, for longer with others.
check_calls() {
  fresh_build || return
  say "  from seed ${ES_SEED:=$(date +%s)}"
  export ES_SEED ES_TEST_SECONDS=$CALL_SECONDS
  run_tests "tap random_calls"
}
