// SPDX-License-Identifier: Apache-2.0

// Package rules says what the kernel should hold for a set of Services, as plain
// data: chains, rules, maps and elements of one nftables table in each of the
// families ip and ip6. It is pure: no I/O, no clock, no log, no netlink. Package
// rules/wire turns its values into netlink messages and back.
//
// The table of the family ip, with a service of two endpoints, one of a single
// endpoint and one without any (sets that are empty left out):
//
//	table ip nftproxy {
//		map endpoints-2f { typeof numgen inc mod 1 . numgen inc mod 2 : ip daddr . th dport
//			elements = { 914 . 196608 : 10.244.1.2 . 8080, 914 . 196609 : 10.244.2.7 . 8080 } }
//		map single { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
//			elements = { 10.96.0.1 . tcp . 443 : 172.18.0.2 . 6443 } }
//		map service-ips { type ipv4_addr . inet_proto . inet_service : verdict
//			elements = { 10.96.0.20 . tcp . 80 : goto service/default/web/http,
//			             10.96.0.30 . tcp . 80 : goto no-endpoints } }
//		map service-nodeports { type inet_proto . inet_service : verdict
//			elements = { tcp . 30080 : goto service/default/web/http } }
//		set masquerade-nodeports { type inet_proto . inet_service; elements = { tcp . 30080 } }
//		set nodeport-ips { type ipv4_addr; elements = { 172.18.0.2 } }
//		set cluster-ips { type ipv4_addr; elements = { 10.96.0.1, 10.96.0.20, 10.96.0.30 } }
//		set service-cidrs { type ipv4_addr; flags interval; elements = { 10.96.0.0/16 } }
//		set hairpin { type ipv4_addr . ipv4_addr; elements = { 10.244.1.2 . 10.244.1.2 } }
//		set protocols { type inet_proto; elements = { tcp, udp, sctp } }
//
//		chain service/default/web/http {
//			meta l4proto tcp dnat ip to numgen inc mod 1 offset 914 . numgen inc mod 2 offset 196608 map @endpoints-2f
//		}
//		chain no-endpoints {
//			reject with tcp reset
//			meta l4proto sctp reject with icmp prot-unreachable
//			reject
//		}
//		chain nodeports {
//			meta l4proto . th dport @masquerade-nodeports meta mark set meta mark | 0x00004000
//			meta l4proto @protocols dnat ip to meta l4proto . th dport map @single-nodeports
//			meta l4proto . th dport vmap @service-nodeports
//		}
//		chain services {
//			ip daddr @cluster-ips ip saddr != 10.244.0.0/16 meta mark set meta mark | 0x00004000
//			ip daddr . meta l4proto . th dport @masquerade-ips meta mark set meta mark | 0x00004000
//			meta l4proto @protocols dnat ip to ip daddr . meta l4proto . th dport map @single
//			ip daddr . meta l4proto . th dport vmap @service-ips
//			ip daddr @nodeport-ips jump nodeports
//			ip daddr @cluster-ips jump no-endpoints
//		}
//		chain prerouting  { type nat hook prerouting priority dstnat; jump services }
//		chain output      { type nat hook output priority -100; jump services }
//		chain postrouting { type nat hook postrouting priority srcnat
//			ip daddr @service-cidrs drop
//			meta mark & 0x00004000 == 0x00000000 ct status dnat ip saddr . ip daddr @hairpin masquerade fully-random
//			meta mark & 0x00004000 == 0x00000000 return
//			meta mark set meta mark ^ 0x00004000 masquerade fully-random
//		}
//	}
//
// Some service ports have more, where they need it:
//
//	chain local/default/web/http     the endpoints on this node, for the traffic policy Local
//	chain external/default/web/http  externalTrafficPolicy Local: pods and the node itself go to all
//	                                 endpoints, others to the local ones (or no-local-endpoints: drop)
//	chain firewall/default/web/http  loadBalancerSourceRanges, in set sources/default/web/http
//	chain remember/default/web/http  session affinity: update @affinity/default/web/http { ip saddr timeout 3h : ip daddr . th dport }
//	chain failover, failover-in, …   with --failover: they note connections without an answer, at hooks of type filter
//	chain random-3, source-hash-3    those schedulers, for all frontends with 3 endpoints, in map backends
//
// Session affinity adds a rule to postrouting, and a chain on the hook input for
// endpoints on the node itself: by where the client connected to, the map sticky
// jumps to the chain that remembers. The service's chain asks first, and only then counts:
//
//	meta l4proto tcp ip daddr set ip saddr map @affinity/default/web/http
//	    dnat ip to numgen inc mod 1 offset 914 . ip daddr . tcp dport map @stay-2f
//	ip daddr set ct original ip daddr delete @affinity/default/web/http { ip saddr : ip daddr . th dport }
//
// The first rule has the endpoint that the client is remembered with looked up among those that there
// are, in a map that changes in the same transaction as they do: a client is never sent to an endpoint
// that is gone, however many clients there are. The second rule is for clients that are new, or whose
// endpoint is gone. It forgets them, because update in the chain that remembers does not replace what is
// there: the client's new endpoint comes next. Nothing deletes the others that were with that endpoint: when
// they connect again it is their turn, or the endpoint is back and they stay, or their time is over.
//
// The port in the first rule is that of the remembered endpoint, as the address is; nft, which lists a part
// of a map's value only as the whole, shows the packet's. The address goes through the packet because nft
// cannot list one lookup's result as the key of another. nft does not load these rules: it refuses the file.
//
// All hooked chains but failover's are of type nat: the kernel asks them once for each
// connection, so packets of established connections meet none of these rules.
//
// Round robin is exact for each service port because `numgen inc` counts in the
// service port's own rule. The key of its endpoints is a constant (the first
// numgen, whose modulus is 1, and the offset of the second: 48 bits derived from
// the service port's name, next to 8 bits that choose the map) and the counter.
// It holds no field of the packet, so one set of endpoints serves a connection
// whichever of the service's addresses it came to. The order of the endpoints differs
// from node to node: the count begins anew where their number changes, on all nodes at
// once, and the next connections of all are not to go to one endpoint.
package rules
