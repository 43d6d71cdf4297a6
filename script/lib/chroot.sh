# PostgreSQL versions that this Debian doesn't have, in a chroot of the one
# that does.  Making one takes a minute, so it is kept; runs work in folders
# of their own inside.

declare -A SUITE=([17]=trixie [18]=forky)

if [ "$EUID" = 0 ]; then CACHE=${XDG_CACHE_HOME:-/var/cache}; else CACHE=${XDG_CACHE_HOME:-$HOME/.cache}; fi
CACHE=$CACHE/eventsourcing-test

# An old one is made again, so that the latest minor release is what is tested.
have_chroot() {
  [ -n "$(find "$CACHE/$1/.complete" -mtime -14 2>/dev/null)" ]
}

# make_chroot NAME SUITE PACKAGE...
make_chroot() {
  local name=$1 suite=$2 dir=$CACHE/$1 log=$TMP/mmdebstrap.log IFS=,
  shift 2
  need_packages mmdebstrap || return
  say "making a chroot of Debian $suite in $dir"
  as_root rm -rf --one-file-system "$dir"
  # The index of a suite that is not released may be past its date.
  run_job as_root mmdebstrap --variant=apt --include="$*" \
    --aptopt='Acquire::Check-Valid-Until "false"' "$suite" "$dir" >"$log" 2>&1 || {
    tail -n 5 "$log"
    return 1
  }
  as_root touch "$dir/.complete"
}

# open_chroot -s|-x NAME SUITE PACKAGE...: any number of runs may use a chroot
# (-s) while nobody makes it or has it for himself (-x).  Ends with exec 9>&-.
open_chroot() {
  local how=$1 name=$2
  shift
  ask_password && as_root mkdir -p "$CACHE" && as_root touch "$CACHE/$name.lock" &&
    exec 9<"$CACHE/$name.lock" && flock "$how" 9 &&
    { have_chroot "$name" ||
      { flock -x 9 && { have_chroot "$name" || make_chroot "$@"; } && flock "$how" 9; }; } || {
    exec 9>&-
    return 1
  }
}

# copy_postgres DIR VERSION CHROOT: the PostgreSQL and the build in use out here, so
# that the test of pg_upgrade to VERSION in the chroot has an older one.
copy_postgres() {
  local to=$1/usr/lib/postgresql/$PGVER file
  mkdir -p "$to" "$1/usr/share/postgresql"
  cp -r "/usr/lib/postgresql/$PGVER/bin" "$to"
  mkdir "$to/lib"
  cp "/usr/lib/postgresql/$PGVER/lib"/*.so "$to/lib"
  cp -r "/usr/share/postgresql/$PGVER" "$1/usr/share/postgresql"
  cp -r "$DEST/usr/." "$1/usr"
  # From 18 on a library outside of PostgreSQL's own folder, as the test's, is found
  # by its bare name alone.
  [ "$2" -lt 18 ] || sed -i "s,'\$libdir/,'," "$1/usr/share/postgresql/$PGVER/extension/eventsourcing.control"
  # with what libraries of this Debian the other one lacks
  ldd "$to"/bin/* 2>/dev/null | awk '$2 == "=>" && $3 ~ "^/" { print $3 }' | sort -u |
    while read -r file; do
      [ -e "$3/usr/lib/$(basename "$(dirname "$file")")/$(basename "$file")" ] || cp -L "$file" "$to/lib"
    done
}

# run_in_chroot VERSION ARGUMENT...: the script that runs, with these arguments, in there.
run_in_chroot() {
  local version=$1 dir=$CACHE/pg$1 log=$TMP/chroot.log old=
  shift
  open_chroot -s "pg$version" "${SUITE[$version]}" \
    "postgresql-$version" "postgresql-server-dev-$version" "postgresql-$version-pgtap" \
    gcc make libc6-dev libipc-run-perl libtap-parser-sourcehandler-pgtap-perl || {
    say "SKIPPED: PostgreSQL $version, because no chroot for it could be made"
    return
  }

  INSIDE=$(as_root mktemp -d "$dir/tmp/es-tree.XXXXXX")
  copy_tree "$TMP/in$version/tree"
  if [ -n "${DEST:-}" ]; then
    copy_postgres "$TMP/in$version/old" "$version" "$dir"
    old=${INSIDE#"$dir"}/old/usr/lib/postgresql/$PGVER
  fi
  as_root cp -r "$TMP/in$version/." "$INSIDE"
  as_root chmod 755 "$INSIDE"
  run_job test_in_chroot "$dir" ES_OLD_POSTGRES="$old" \
    "${INSIDE#"$dir"}/tree/script/${0##*/}" --pg "$version" "$@" || true
  as_root rm -rf "$INSIDE"
  INSIDE=
  exec 9>&-
  count_last_line "$log"
}

LAST_LINE='^[0-9]+ passed, [0-9]+ failed$'

# count_last_line LOG: of a script that ran by itself.  Without one, it broke.
count_last_line() {
  local passed= failed=
  read -r passed _ failed _ <<<"$(grep -E "$LAST_LINE" "$1" | tail -n 1)"
  count "${passed:-0}" "${failed:-1}"
}

# test_in_chroot DIR COMMAND..., variables first; with /proc, which sanitizers
# read, where it can be had.
test_in_chroot() {
  local mount=()
  ! as_root unshare -m mount -t proc proc "$1/proc" 2>/dev/null ||
    mount=(unshare -m sh -c 'mount -t proc proc "$0/proc" && exec "$@"' "$1")
  as_root "${mount[@]}" chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "${@:2}" 2>&1 |
    tee "$TMP/chroot.log" | grep -vE --line-buffered "$LAST_LINE"
}
