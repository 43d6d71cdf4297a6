# The kind "monitoring": monitoring/ against Debian's exporter and Prometheus.
# Both are unpacked and not installed, since Debian would start them as services.

TITLE[monitoring]=monitoring

kind_monitoring() {
  local dir=$TMP/prometheus log=$TMP/monitoring.log status=0 passed failed bin
  as_runner mkdir -p "$dir"
  (cd "$dir" && as_runner apt-get -q download prometheus prometheus-postgres-exporter >"$dir/log" 2>&1 &&
    for package in *.deb; do as_runner dpkg-deb -x "$package" . || exit; done) || {
    say "SKIPPED monitoring: Prometheus and its exporter cannot be had here"
    return
  }
  bin=$dir/usr/bin
  start_server monitoring || { count 0 1; return; }
  psql -q -d postgres -c 'CREATE DATABASE shop'
  {
    for rules in "check rules monitoring/alerts.yml" "test rules monitoring/alerts_test.yml"; do
      if (cd "$BUILD" && as_runner "$bin/promtool" $rules); then say "ok - promtool $rules"; else say "not ok - promtool $rules"; fi
    done
    psql -q -v ON_ERROR_STOP=1 -d shop -f "$BUILD/test/monitoring/store.sql" -f "$BUILD/monitoring/role.sql" >/dev/null &&
      (cd "$BUILD" && run_job as_runner env PGDATABASE=shop perl test/monitoring/check.pl \
        "$bin/prometheus-postgres-exporter" "$bin/prometheus")
  } >"$log" 2>&1 || status=$?
  stop_servers
  passed=$(grep -c '^ok ' "$log") || true
  failed=$(grep -c '^not ok ' "$log") || true
  [ "$status" = 0 ] || [ "$failed" -gt 0 ] || failed=1
  [ "$failed" = 0 ] || tail -n 60 "$log"
  count "$passed" "$failed"
}
