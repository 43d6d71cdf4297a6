# What script/test and script/demo share: packages, a private copy of the
# tree, a build installed under a private root, private servers, and their
# removal at exit.  Sourced; ROOT is the top of the source tree.
#
# Nothing is installed into the system's PostgreSQL and no existing cluster is
# touched, so that several runs can go on side by side on one machine.

TMP=            # everything of this run lives below, and goes with it
KEEP=           # non-empty: leave TMP behind
JOB=            # process group in the foreground
INSIDE=         # the tree in a chroot
PGVER=          # major version in use
PG_CONFIG=

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 2; }

# The caller's connection settings must not reach the private servers, nor a
# calling make's flags the makes in here.
for var in ${!PG*} ${!MAKE*} MFLAGS; do
  case $var in PG_*) ;; *) unset "$var" ;; esac
done
unset var
# Debian always has this locale; it makes every cluster here a UTF-8 one.
export LC_ALL=C.UTF-8

as_root() {
  if [ "$EUID" = 0 ]; then "$@"; else sudo "$@"; fi
}

# A job of ours can't ask for sudo's password: let it be asked here.
ask_password() {
  [ "$EUID" = 0 ] || sudo -v || {
    say "this takes root, or a user who may use sudo"
    return 1
  }
}

# initdb and postgres refuse root, so root hands over to the user postgres.
as_runner() {
  local env=(env HOME="$TMP" TMPDIR="$TMP" PATH="$PATH")
  if [ "$EUID" = 0 ]; then
    setpriv --reuid=postgres --regid=postgres --init-groups "${env[@]}" "$@"
  else
    "${env[@]}" "$@"
  fi
}

# Run a command in a process group of its own and wait for it, so that a
# signal to us gets through at once and stopping reaches all its children.
run_job() {
  local status=0
  set -m
  "$@" </dev/null &
  JOB=$!
  set +m
  wait "$JOB" || status=$?
  JOB=
  return "$status"
}

#
# Packages
#

have_package() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

can_install() {
  [[ $(apt-cache policy "$1" 2>/dev/null) == *'Candidate: '[0-9]* ]]
}

# Install those of the packages that are missing; or say why not, and fail.
need_packages() {
  local package missing=() conf=/etc/postgresql-common/createcluster.d/eventsourcing-test.conf status=0
  for package; do
    have_package "$package" || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0

  say "installing ${missing[*]}"
  ask_password || return
  for package in "${missing[@]}"; do
    if ! can_install "$package"; then
      apt_get update || return
      break
    fi
  done

  if [[ " ${missing[*]} " != *" postgresql-"[0-9]* ]]; then
    apt_get install "${missing[@]}"
    return
  fi
  # postgresql-N creates and starts a cluster when it is installed, unless it
  # is told not to; which takes postgresql-common.
  apt_get install postgresql-common || return
  as_root mkdir -p "${conf%/*}"
  echo 'create_main_cluster = false' | as_root tee "$conf" >/dev/null
  apt_get install "${missing[@]}" || status=$?
  as_root rm -f "$conf"
  return "$status"
}

# apt_get COMMAND...: quiet, unless it fails.
apt_get() {
  local log=$TMP/apt.log
  run_job as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 || {
    tail -n 30 "$log"
    return 1
  }
}

available_version() {
  local version
  for version in 15 17 18 16; do
    if have_package "postgresql-$version" || can_install "postgresql-$version"; then
      say "$version"
      return
    fi
  done
  return 1
}

# Choose the PostgreSQL to work with ($1, or 15, or what there is) and install
# what building needs, and the further packages for it that are named, where @
# stands for the version.
use_postgres() {
  local version=$1 package packages=()
  shift
  command -v apt-get >/dev/null || die "only Debian and its relatives are supported"
  [ -n "$version" ] || version=$(available_version) || {
    ask_password && apt_get update || die "can't look for packages"
    version=$(available_version) || die "found no PostgreSQL 15 or later to install"
  }
  for package in postgresql-@ postgresql-server-dev-@ gcc libc6-dev make "$@"; do
    packages+=("${package/@/$version}")
  done
  need_packages "${packages[@]}" || die "can't install what is missing"
  PGVER=$version
  PG_CONFIG=/usr/lib/postgresql/$version/bin/pg_config
}

#
# The private folder
#

# Short, because it ends up in the names of Unix sockets.
make_tmp() {
  trap cleanup EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  TMP=$(mktemp -d /tmp/es.XXXXXX)
}

cleanup() {
  local status=$?
  trap '' HUP INT TERM
  trap - EXIT
  [ -z "$JOB" ] || as_root kill -TERM -- "-$JOB" 2>/dev/null || true
  stop_servers
  # A script/test in a chroot cleans up, too.
  for _ in {1..100}; do
    [ -n "$JOB" ] && as_root kill -0 -- "-$JOB" 2>/dev/null || break
    sleep 0.1
  done
  [ -z "$INSIDE" ] || as_root rm -rf "$INSIDE"
  [ -z "${SMALL:-}" ] || as_root umount -l "$SMALL" || true
  if [ -n "$KEEP" ]; then
    say "kept $TMP"
  else
    rm -rf "$TMP" 2>/dev/null || as_root rm -rf "$TMP"
  fi
  exit "$status"
}

# Every server that was started below TMP, whoever started it, and pgbouncer.
stop_servers() {
  local file pid
  unset PGHOST PGPORT PGUSER
  find "$TMP" ${SMALL:+"$SMALL"} -xdev -name postmaster.pid 2>/dev/null | while read -r file; do
    pid=$(head -n 1 "$file" 2>/dev/null) || continue
    # The file of a server that crashed may name another's process by now.
    [ ! -e /proc/self ] || [ "/proc/$pid/cwd" -ef "${file%/*}" ] || continue
    kill -QUIT "$pid" 2>/dev/null || continue
    for _ in {1..50}; do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
  done
  [ ! -e "$TMP/pgbouncer/pgbouncer.pid" ] || kill "$(<"$TMP/pgbouncer/pgbouncer.pid")" 2>/dev/null || true
}

# copy_tree DIR: the tracked files and the untracked ones that are not
# ignored; where there is no git, all of them.
copy_tree() {
  local git=(git -c safe.directory='*' -C "$ROOT")
  mkdir -p "$1"
  {
    if "${git[@]}" rev-parse --git-dir >/dev/null 2>&1; then
      "${git[@]}" ls-files -z --cached --others --exclude-standard
    else
      (cd "$ROOT" && find . -name .git -prune -o \( -type f -o -type l \) -print0)
    fi
  } | (cd "$ROOT" && perl -0lne 'print if -e || -l' | tar --null -T - -cf -) |
    tar -C "$1" -xf - --no-same-owner
}

# Copy the tree, build it with warnings as errors, install it below TMP.
# Sets BUILD, DEST, and TEMP_CONFIG: the settings with which a private server
# finds the installed files.  The arguments are further lines for it.  COPT has
# flags for compiler and linker.
COPT=-Werror
build() {
  local log=$TMP/build.log
  BUILD=$TMP/build DEST=$TMP/dest
  copy_tree "$BUILD"
  mkdir "$DEST"
  write_config "$@"
  [ "$EUID" != 0 ] || chown -R postgres: "$TMP"
  if ! { run_job as_runner make -C "$BUILD" -s PG_CONFIG="$PG_CONFIG" clean &&
         run_job as_runner make -C "$BUILD" -j2 PG_CONFIG="$PG_CONFIG" COPT="$COPT" &&
         run_job as_runner make -C "$BUILD" PG_CONFIG="$PG_CONFIG" COPT="$COPT" DESTDIR="$DEST" install
       } >"$log" 2>&1; then
    tail -n 40 "$log"
    return 1
  fi
}

write_config() {
  local libdir sharedir line
  libdir=$("$PG_CONFIG" --pkglibdir)
  sharedir=$("$PG_CONFIG" --sharedir)
  export TEMP_CONFIG=$TMP/eventsourcing.conf
  {
    cat "$ROOT/test/eventsourcing.conf"
    say "dynamic_library_path = '$DEST$libdir:\$libdir'"
    if [ "$PGVER" -ge 18 ]; then
      say "extension_control_path = '$DEST$sharedir:\$system'"
    else # a setting of Debian's own
      say "extension_destdir = '$DEST'"
    fi
    for line; do say "$line"; done
  } >"$TEMP_CONFIG"
}

#
# A private server
#

SERVER_BIN=     # where its programs are, if not where pg_config says

# start_server NAME: a cluster that listens on a Unix socket of its own alone,
# so that its port can't be taken.  With FSYNC=on, durable.  Sets PGHOST.
start_server() {
  local data=$TMP/$1 bin=$SERVER_BIN log=$TMP/initdb.log
  [ -n "$bin" ] || bin=$("$PG_CONFIG" --bindir)
  as_runner mkdir "$data.s"
  run_job as_runner "$bin/initdb" -D "$data" -U postgres -A trust -N -E UTF8 >"$log" 2>&1 &&
    as_runner tee -a "$data/postgresql.conf" <"$TEMP_CONFIG" >/dev/null &&
    run_job as_runner "$bin/pg_ctl" -D "$data" -l "$data.log" -s -w start \
      -o "-c listen_addresses= -c fsync=${FSYNC:-off} -k $data.s" >>"$log" 2>&1 || {
    tail -n 20 "$log" "$data.log"
    return 1
  }
  export PGHOST=$data.s PGPORT=5432 PGUSER=postgres
}

psql() {
  as_runner "$("$PG_CONFIG" --bindir)/psql" -X "$@"
}
