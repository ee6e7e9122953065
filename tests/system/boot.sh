#!/bin/bash
# Boots one throw-away system in a container and takes it down again: the keeper of tests/system/boxed.rs.
#
#   boot.sh NAME BASE NOTIFY [NSPAWN-ARGUMENT...]
#
# BASE/lower is a symbolic link to the root that the box is laid over (never written to), BASE/stage is copied into the
# writable layer before the boot. The box lives until standard input ends, which it does however the caller ends: so
# nothing is left behind by a panic, a Ctrl-C or a SIGKILL of the tests. NOTIFY is where systemd-nspawn reports.
#
# Why so much care (each learnt by an accident): a container that shares the caller's cgroup shares unit cgroups with the
# next box; killing systemd-nspawn leaves the container running; mounts made in the caller's namespace stay behind.
set -u
name=$1 base=$2 notify=$3
shift 3
trap '' INT TERM HUP

unified=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts)
named=$(awk '$3 == "cgroup" && $4 ~ /name=systemd/ { print $2; exit }' /proc/self/mounts)
groups=()
for root in "$unified" "$named"; do
    [ -n "$root" ] && groups+=("$root/$name")
done
mkdir "${groups[@]}" || { echo "cannot make the cgroups ${groups[*]}"; exit 1; }

# What a path of cgroups holds, deepest first: processes are killed, then directories removed.
sweep() {
    local try group
    for try in $(seq 200); do
        [ -e "$unified/$name/cgroup.kill" ] && echo 1 >"$unified/$name/cgroup.kill" 2>/dev/null
        for group in "${groups[@]}"; do
            [ -d "$group" ] || continue
            find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null | while read -r process; do
                [ "$process" -gt 1 ] && kill -KILL "$process" 2>/dev/null
            done
            find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
        done
        for group in "${groups[@]}"; do
            [ -d "$group" ] && { sleep 0.02; continue 2; }
        done
        return 0
    done
    echo "left behind: ${groups[*]}"
}

# The inner shells: the first holds the mount namespace and so the disk of the box, from boot to boot; the second is in
# the box's own cgroups. 133: the box reboots. A file BASE/again: it shall be booted again however it ended.
disk='
set -e
mount -t tmpfs -o mode=755 box "$BASE/mnt"
mkdir "$BASE/mnt/upper" "$BASE/mnt/work" "$BASE/mnt/root"
cp -a "$BASE/stage/." "$BASE/mnt/upper/"
lower=$(readlink -f "$BASE/lower")
mount -t overlay box -o "lowerdir=$lower,upperdir=$BASE/mnt/upper,workdir=$BASE/mnt/work" "$BASE/mnt/root"
set +e
while :; do
    bash -c "$BOX_BOOT" bash "$@"
    code=$?
    [ -e "$BASE/over" ] && break
    [ "$code" = 133 ] || [ -e "$BASE/again" ] || break
    rm -f "$BASE/again"
    # A cgroup that was left would be taken for a unit that runs.
    for group in $GROUPS_OF_BOX; do find "$group" -mindepth 1 -depth -type d -exec rmdir {} + ; done
done
'
boot='
for group in $GROUPS_OF_BOX; do echo 0 >"$group/cgroup.procs" || exit 1; done
export NOTIFY_SOCKET=$BOX_NOTIFY SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
unset BOX_NOTIFY BOX_BOOT GROUPS_OF_BOX
exec systemd-nspawn --quiet --directory="$BASE/mnt/root" --machine="$NAME" --register=no --keep-unit \
    --notify-ready=yes --console=pipe "$@"
'
(
    BASE=$base NAME=$name BOX_NOTIFY=$notify BOX_BOOT=$boot GROUPS_OF_BOX=${groups[*]} \
        unshare --mount --propagation private bash -c "$disk" bash "$@" >"$base/console" 2>&1 </dev/null
    : >"$base/ended"
) 2>/dev/null </dev/null &

# Nothing is ever written to standard input: this returns when the caller has gone.
cat >/dev/null

: >"$base/over"
sweep
wait 2>/dev/null
rm -rf --one-file-system -- "$base"
