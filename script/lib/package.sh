# The kind "package": what a user installs is built, installed, tried and taken
# away again, as that user would, in a chroot with nothing else in it.

TITLE[package]=packages

kind_package() {
  local dir=$CACHE/package log=$TMP/package.log status=0 passed failed
  open_chroot -x package bookworm build-essential ca-certificates debhelper dpkg-dev pgxnclient \
    postgresql-15 postgresql-server-dev-all unzip || {
    say "SKIPPED packages: no chroot for them could be made"
    return
  }
  INSIDE=$(as_root mktemp -d "$dir/tmp/es-package.XXXXXX")
  make_archive && as_root cp "$TMP"/dist/eventsourcing-*.zip "$ROOT/script/lib/package_inside" "$INSIDE" &&
    run_job as_root chroot "$dir" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
      bash "${INSIDE#"$dir"}/package_inside" >"$log" 2>&1 || status=$?
  as_root rm -rf "$INSIDE"
  INSIDE=
  exec 9>&-

  passed=$(grep -c '^ok ' "$log") || true
  failed=$(grep -c '^not ok ' "$log") || true
  [ "$status" = 0 ] || [ "$failed" -gt 0 ] || failed=1
  grep -E '^(not )?ok ' "$log" || true
  [ "$failed" = 0 ] || tail -n 60 "$log"
  count "$passed" "$failed"
}

# The archive for PGXN, made by `make dist` of a repository that has this tree.
make_archive() {
  local git=(git -c user.name=test -c user.email=test@localhost -c commit.gpgsign=false -C "$TMP/dist")
  copy_tree "$TMP/dist" && "${git[@]}" init -q && "${git[@]}" add -A && "${git[@]}" commit -q -m tree &&
    make -C "$TMP/dist" -s dist
}
