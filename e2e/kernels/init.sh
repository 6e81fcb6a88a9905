#!/bin/sh
# The first process of the guest. The kernel's command line says how to run: t.sctp, t.slowness, t.parallel. The file /t/plan says what.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp; mount -t tmpfs run /run
mount -t cgroup2 cgroup /sys/fs/cgroup
chmod 1777 /tmp; mkdir -p /dev/pts /run/netns
ip link set lo up
echo 3 >/proc/sys/kernel/printk
option() { sed -n "s/.*t\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
has() { if "$@" >/dev/null 2>&1; then echo yes; else echo no; fi; }
# Whether the kernel takes a thing of nftables; old versions of nft do not know all.
takes() {
	if message=$(nft "$1" 2>&1); then echo yes; return; fi
	case $message in *syntax*) echo unknown ;; *) echo no ;; esac
}
# How many times slower than a plain machine this one is, now; or what the command line says.
slowness() {
	NFTPROXY_TEST_SLOWNESS=$(option slowness)
	[ "$NFTPROXY_TEST_SLOWNESS" = 0 ] && NFTPROXY_TEST_SLOWNESS=$(/t/slowness)
	export NFTPROXY_TEST_SLOWNESS
	echo "=== slowness $NFTPROXY_TEST_SLOWNESS"
}
echo "=== kernel $(uname -r)"
if [ "$(option sctp)" = yes ]; then modprobe sctp; else rm -rf /lib/modules/*/kernel/net/sctp; fi # or the kernel loads it by itself
echo "=== has SCTP $(has grep -q '^sctp ' /proc/modules)"
modprobe br_netfilter # nothing loads it by itself
echo "=== has flowtable $(takes 'add table ip flows; add flowtable ip flows f { hook ingress priority 0; devices = { lo }; }')"
nft delete table ip flows 2>/dev/null
# As on a node, but without an API server: what is forwarded, and where the Services come from. Tests set the former themselves.
forward() { echo "$1" >/proc/sys/net/ipv4/ip_forward; echo "$1" >/proc/sys/net/ipv6/conf/all/forwarding; }
mkdir -p /tmp/services
forward 1
/t/nftproxy check --manifests /tmp/services >/tmp/check
echo "=== check $?"
forward 0
cat /tmp/check
[ -x /t/kubeproxy ] && export NFTPROXY_TEST_KUBE_PROXY=/t/kubeproxy
while read -r suite dir run; do
	slowness
	echo "=== begin $suite"
	cd "/t/_src/$dir" || cd /tmp
	case $suite in
	demo) /t/demo --bin /t/nftproxy ;;
	*) "/t/$suite.test" -test.v -test.timeout 3h -test.parallel "$(option parallel)" -test.run "$run" ;;
	esac </dev/null
	echo "=== end $suite $?"
done </t/plan 2>&1
echo o >/proc/sysrq-trigger
sleep 60
