# The job of tests/system/limits.rs: each part writes what the tests look at into files of its own.

ask() { curl -sS --max-time 60 "http://127.0.0.1:$1"; }
property() { systemctl show --value -p "$2" -- "$1"; }
# await COMMAND…: until it succeeds; the tests find what is missing when it never does.
await() {
    local deadline=$((SECONDS + 60))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.1
    done
}
# Bash's trace of those would fill the log.
{ set +x; } 2>/dev/null

# ---- memory: one of two workers eats too much
restarted() { [ "$(cat <(property eat@1 NRestarts) <(property eat@2 NRestarts) | sort -n | tail -1)" -gt 0 ]; }
both() { systemctl is-active eat@1 eat@2; }
appctl start eat
ask '8081/eat?n=400' >eat.eater 2>&1 &
for time in $(seq 20); do ask 8081/who; done >eat.answers 2>&1
wait
await restarted
await both
systemctl show eat@1 eat@2 -p Id -p NRestarts -p OOMPolicy >eat.units
appctl list >eat.list
appctl status eat >eat.status
journalctl --sync
journalctl -q -o cat -u eat -u 'eat@*' >eat.journal
appctl stop eat

# ---- memory_reload: first one reads a large file, then one eats
current() { cat "/sys/fs/cgroup/grow.slice/$1/memory.current"; }
replaced() { journalctl --sync; journalctl -q -o cat -u grow | grep -q ': replacing it'; }
gone() { [ "$(systemctl list-units --no-legend --state=activating,active,deactivating 'grow@*' | wc -l)" = 2 ] && systemctl is-active grow@3; }
head -c 300M /dev/zero >/opt/large
sync; echo 3 >/proc/sys/vm/drop_caches
appctl start grow
ask 8084/read >grow.read
sleep 4
cat <(current grow@1.service) <(current grow@2.service) | sort -n | tail -1 >grow.current
replaced && echo yes >grow.wrong || echo no >grow.wrong
ask '8084/eat?n=200' >grow.eater
await replaced
await gone
systemctl show grow@1 grow@2 grow@3 -p Id -p ActiveState -p NRestarts -p Result >grow.units
journalctl --sync
journalctl -q -o cat -u grow >grow.journal
appctl stop grow
rm /opt/large

# ---- processor: it spins for longer than we look
appctl start spin
ask '8082/spin?n=8'
sleep 1
from=$(date +%s%N) used=$(property spin@1 CPUUsageNSec)
sleep 4
used=$(($(property spin@1 CPUUsageNSec) - used)) past=$(($(date +%s%N) - from))
echo $((100 * used / past)) >spin.percent
systemctl kill -s KILL spin@1
appctl stop spin

# ---- tasks and files
appctl start spawn
ask '8083/spawn?n=5' >spawn.few
ask '8083/spawn?n=60' >spawn.many
ask '8083/open?n=50' >open.few
ask '8083/open?n=500' >open.many
appctl stop spawn

# ---- addresses: a client that is not on this machine, by the look of it
ip address add 10.9.9.1/32 dev lo
appctl start ported
curl -sS --max-time 60 http://127.0.0.1:8085/ >ported.local
curl -sS --max-time 60 --interface 10.9.9.1 http://10.9.9.1:8085/ >ported.outside
systemd-run -q --wait --pipe -p IPAddressDeny=any -p IPAddressAllow=localhost curl -sS --max-time 10 http://10.9.9.1:8085/
case $? in 7 | 28) echo '7 or 28' ;; *) echo "not refused" ;; esac >ported.filtered
systemctl show ported.service -p IPAddressDeny -p PrivateNetwork >ported.units
appctl stop ported
