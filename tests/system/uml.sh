#!/bin/bash
# Boots one throw-away system under User-mode Linux and takes it down again: the keeper of tests/system/uml.rs.
#
#   uml.sh BASE KERNEL COMMAND-LINE...
#
# BASE/lower is a symbolic link to the root that the system is laid over (never written to), BASE/stage is copied into the
# writable layer before the boot, BASE/bind holds a symbolic link for each file or directory that is mounted into it (its
# name is the path inside, with `+` for `/`), and BASE/results is `/results` inside. BASE/ended comes when the kernel has
# halted. All of it lives until standard input ends, which it does however the caller ends.
set -u
base=$1
shift
trap '' INT TERM HUP

# In a mount and a process namespace of their own: whatever ends the first process there ends the kernel with all of its
# children, and no mount is left.
setup='
set -e
trap ": >\"$BASE/ended\"" EXIT
root=$BASE/mnt/root
mount -t tmpfs -o mode=755,exec uml "$BASE/mnt"
mkdir "$BASE/mnt/upper" "$BASE/mnt/work" "$root" "$BASE/mnt/memory"
cp -a "$BASE/stage/." "$BASE/mnt/upper/"
lower=$(readlink -f "$BASE/lower")
mount -t overlay uml -o "lowerdir=$lower,upperdir=$BASE/mnt/upper,workdir=$BASE/mnt/work" "$root"
# By these systemd would think that it runs in a container, and not read the kernel command line.
rm -f "$root/.dockerenv" "$root/run/.containerenv"
# What the lower one holds would be removed by the booted system, file by file.
mount -t tmpfs -o mode=1777 uml "$root/tmp"
place() {
    if [ -d "$1" ]; then mkdir -p "$2"; else mkdir -p "${2%/*}" && touch "$2"; fi
    mount --bind "$1" "$2"
}
for link in "$BASE"/bind/*; do
    name=${link##*/}
    place "$(readlink -f "$link")" "$root${name//+//}"
done
place "$BASE/results" "$root/results"
kernel=$1
shift
TMPDIR=$BASE/mnt/memory "$kernel" root=/dev/root rootfstype=hostfs "rootflags=$root" rw con=null con0=fd:0,fd:1 ssl=null "$@"
'
BASE=$base unshare --mount --propagation private --pid --fork --kill-child --mount-proc bash -c "$setup" bash "$@" \
    >"$base/console" 2>&1 </dev/null &

# Nothing is ever written to standard input: this returns when the caller has gone.
cat >/dev/null

kill -KILL %1 2>/dev/null
wait
rm -rf --one-file-system -- "$base"
