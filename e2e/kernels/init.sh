#!/bin/sh
# The first process of the guest. The kernel's command line says what to run: t.sctp, t.slowness, t.suites, t.run.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp; mount -t tmpfs run /run
mount -t cgroup2 cgroup /sys/fs/cgroup
chmod 1777 /tmp; mkdir -p /dev/pts /run/netns
ip link set lo up
echo 3 >/proc/sys/kernel/printk
option() { sed -n "s/.*t\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
has() { if "$@" >/dev/null 2>&1; then echo yes; else echo no; fi; }
# Whether the kernel takes a flag of tables; old versions of nft do not know all.
flag() {
	if message=$(nft add table ip "$1" "{ flags $2; }" 2>&1); then echo yes; return; fi
	case $message in *syntax*) echo unknown ;; *) echo no ;; esac
}
NFTPROXY_TEST_SLOWNESS=$(option slowness); export NFTPROXY_TEST_SLOWNESS
echo "=== kernel $(uname -r)"
if [ "$(option sctp)" = yes ]; then modprobe sctp; else rm -rf /lib/modules/*/kernel/net/sctp; fi # or the kernel loads it by itself
echo "=== has SCTP $(has grep -q '^sctp ' /proc/modules)"
echo "=== has owner $(flag owner owner)"
echo "=== has persist $(flag persist owner,persist)"
/t/nftproxy check >/tmp/check
echo "=== check $?"
grep nftables /tmp/check
cd /tmp
for suite in $(option suites | tr , ' '); do
	echo "=== begin $suite"
	case $suite in
	demo) /t/demo --bin /t/nftproxy ;;
	*) "/t/$suite.test" -test.v -test.timeout 3h -test.run "$(option run)" ;;
	esac
	echo "=== end $suite $?"
done </dev/null 2>&1
echo o >/proc/sysrq-trigger
sleep 60
