# The kind "chaos": clients of all sorts against a server that is put through one
# disaster after the other, see test/chaos/run.  Its arguments are disasters, to
# be put through these alone.  What cannot be done here is skipped, aloud.

CHAOS_MINUTES=1 CHAOS_SEED=
SMALL=          # a small filesystem

kind_chaos() {
  local log=$TMP/chaos.log status=0 args=() only="$*" rounds bad
  run_job as_runner prove "$BUILD/test/chaos/checker.pl" >"$log" 2>&1 || status=$?
  prove_result "$log" "$status"

  ! mount_small || args+=(--small "$SMALL")
  ! find_faketime || args+=(--faketime "$FAKETIME")
  [ -z "$CHAOS_SEED" ] || args+=(--seed "$CHAOS_SEED")
  [ -z "$only" ] || args+=(--only "${only// /,}")
  # Aside from the tree, and short, because there are sockets in it.
  run_job chaos "${args[@]}" || true
  read -r rounds _ bad _ <<<"$(grep -E '^[0-9]+ rounds, [0-9]+ not ok$' "$log")" || true
  count $((${rounds:-0} - ${bad:-0})) "${bad:-1}"
  # What led there is worth more than the room.
  [ "${bad:-1}" = 0 ] || KEEP=1
  unmount_small
}

chaos() {
  as_runner "$BUILD/test/chaos/run" --dir "$TMP/chaos" --bin "$("$PG_CONFIG" --bindir)" \
    --config "$TEMP_CONFIG" --minutes "$CHAOS_MINUTES" "$@" 2>&1 | tee "$TMP/chaos.log"
}

mount_small() {
  mkdir -p "$TMP/small"
  need_packages mount >/dev/null 2>&1 &&
    as_root mount -t tmpfs -o size=700m,mode=777 tmpfs "$TMP/small" 2>/dev/null || {
    say "SKIPPED the full disk: a small filesystem cannot be mounted here"
    return 1
  }
  SMALL=$TMP/small
}

unmount_small() {
  [ -z "$SMALL" ] || as_root umount -l "$SMALL"
  SMALL=
}

find_faketime() {
  need_packages faketime >/dev/null 2>&1 &&
    FAKETIME=$(dpkg -L libfaketime | grep '/libfaketime\.so\.1$') || {
    say "SKIPPED the clock set back: faketime cannot be installed here"
    return 1
  }
}
