# The kind "clients": the examples in other languages, each as a user would run
# it, directly and through pgbouncer in transaction mode.  A runtime that is not
# there is skipped, aloud.

CLIENTS=(rails python node java)

kind_clients() {
  local client log=$TMP/clients.log wanted=("$@")
  [ $# -gt 0 ] || wanted=("${CLIENTS[@]}")
  start_server clients || { count 0 1; return; }
  start_pgbouncer || true
  for client in "${wanted[@]}"; do
    "client_$client" || true
  done
  stop_servers
}

skip_client() {
  say "SKIPPED $1: $2"
}

# run_client NAME COMMAND...: in a fresh database, as the runner; the command
# prints a line "ok" or "not ok" for each check.
run_client() {
  local name=$1 log=$TMP/client.log status=0 passed failed
  shift
  PGHOST=$TMP/clients.s PGPORT=5432 psql -q -d postgres -c "DROP DATABASE IF EXISTS shop WITH (FORCE)" -c "CREATE DATABASE shop" 2>/dev/null
  (cd "$BUILD/examples" && run_job as_runner env PGDATABASE=shop PGUSER=postgres "$@") >"$log" 2>&1 || status=$?
  passed=$(grep -c '^ok ' "$log") || true
  failed=$(grep -c '^not ok ' "$log") || true
  [ "$status" = 0 ] && [ "$passed" -gt 0 ] || failed=$((failed + 1))
  if [ "$failed" -gt 0 ]; then
    say "FAILED $name"
    tail -n 40 "$log"
  fi
  count "$passed" "$failed"
}

client_python() {
  command -v /usr/bin/python3 >/dev/null && need_packages python3-psycopg ||
    { skip_client python "there is no Python, or no psycopg 3 for it"; return; }
  run_client python /usr/bin/python3 python/shop.py
  [ -z "$BOUNCER" ] || run_client "python through pgbouncer" PGHOST=127.0.0.1 PGPORT="$BOUNCER_PORT" /usr/bin/python3 python/shop.py
}

client_node() {
  local modules=$TMP/node
  command -v npm >/dev/null || { skip_client node "there is no npm"; return; }
  as_runner mkdir -p "$modules"
  run_job as_runner npm install --silent --no-fund --no-audit --prefix "$modules" pg nodemailer >"$TMP/npm.log" 2>&1 ||
    { skip_client node "npm cannot install pg and nodemailer"; return; }
  run_client node NODE_PATH="$modules/node_modules" node node/shop.js
  [ -z "$BOUNCER" ] || run_client "node through pgbouncer" PGHOST=127.0.0.1 PGPORT="$BOUNCER_PORT" NODE_PATH="$modules/node_modules" node node/shop.js
}

# JDBC knows no Unix sockets, and our servers nothing else: through pgbouncer.
client_java() {
  command -v java >/dev/null && need_packages libpostgresql-jdbc-java ||
    { skip_client java "there is no Java"; return; }
  [ -n "$BOUNCER" ] || { skip_client java "it needs pgbouncer here"; return; }
  run_client "java through pgbouncer" java -cp /usr/share/java/postgresql.jar java/Shop.java \
    "jdbc:postgresql://127.0.0.1:$BOUNCER_PORT/shop?user=postgres&prepareThreshold=0"
}

client_rails() {
  need_packages ruby ruby-activerecord ruby-minitest ruby-pg ||
    { skip_client rails "Debian's Ruby cannot be installed"; return; }
  run_client rails bash -c 'psql -q -v ON_ERROR_STOP=1 -f rails/schema.sql >/dev/null && /usr/bin/ruby rails/test.rb --verbose |
    sed -E "s/^(.*)#(test_[a-z_]+) = .* = \.$/ok - rails: \2/; s/^(.*)#(test_[a-z_]+) = .* = [FE]$/not ok - rails: \2/"; exit ${PIPESTATUS[0]}'
}

# Unpacked and not installed, since Debian would start it as a service.
BOUNCER='' BOUNCER_PORT=
start_pgbouncer() {
  local dir=$TMP/pgbouncer bin
  as_runner mkdir -p "$dir"
  bin=$(command -v pgbouncer) || {
    need_packages libevent-2.1-7 libc-ares2 >/dev/null 2>&1 &&
      (cd "$dir" && as_runner apt-get -q download pgbouncer >/dev/null 2>&1 && as_runner dpkg-deb -x pgbouncer_*.deb .) ||
      { skip_client pgbouncer "cannot be had here"; return 1; }
    bin=$dir/usr/sbin/pgbouncer
  }
  BOUNCER_PORT=$(perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport')
  as_runner tee "$dir/pgbouncer.ini" >/dev/null <<END
[databases]
* = host=$PGHOST port=$PGPORT user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $BOUNCER_PORT
pidfile = $dir/pgbouncer.pid
unix_socket_dir =
auth_type = any
pool_mode = transaction
server_idle_timeout = 1
ignore_startup_parameters = extra_float_digits
END
  as_runner "$bin" "$dir/pgbouncer.ini" >"$TMP/pgbouncer.log" 2>&1 &
  BOUNCER=1
  for _ in {1..50}; do
    psql -h 127.0.0.1 -p "$BOUNCER_PORT" -d postgres -c 'SELECT 1' >/dev/null 2>&1 && return
    sleep 0.1
  done
  skip_client pgbouncer "it does not answer"
  tail -n 20 "$TMP/pgbouncer.log"
  BOUNCER=
  return 1
}
