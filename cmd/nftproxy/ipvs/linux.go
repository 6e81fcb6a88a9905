// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ipvs

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/cloudflare/ipvs"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/proxier/nodeaddr"
)

// system is the calling thread's network namespace.
type system struct {
	root   string
	opened ipvs.Client // once it was needed; it is closed when nobody has it any more
}

func newNode(root string) node { return &system{root: root} }

func (*system) link() ([]netip.Addr, bool, error) {
	link, err := netlink.LinkByName(nodeaddr.IPVSLink)
	if missing := (netlink.LinkNotFoundError{}); errors.As(err, &missing) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	list, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, true, err
	}
	var out []netip.Addr
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP); ok && !addr.Unmap().IsLinkLocalUnicast() {
			out = append(out, addr.Unmap())
		}
	}
	return out, true, nil
}

func (*system) deleteLink() error {
	link, err := netlink.LinkByName(nodeaddr.IPVSLink)
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}

// has says whether the kernel has a part that has the file.
func (s *system) has(file string) bool {
	_, err := os.Stat(filepath.Join(s.root, file))
	return err == nil
}

// client returns a client for IPVS; nil where the kernel has none.
func (s *system) client() (ipvs.Client, error) {
	if s.opened != nil || !s.has("proc/net/ip_vs") {
		return s.opened, nil
	}
	client, err := ipvs.New()
	if errors.Is(err, os.ErrNotExist) { // /proc is not this kernel's
		return nil, nil
	}
	if err == nil {
		s.opened = client
	}
	return s.opened, err
}

func (s *system) servers() ([]Server, error) {
	client, err := s.client()
	if client == nil || err != nil {
		return nil, err
	}
	list, err := client.Services()
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var out []Server
	for _, v := range list {
		server := Server{Protocol: uint8(v.Protocol), Mark: v.FWMark, IPv6: v.Family == ipvs.INET6} //nolint:gosec // IP's protocols have 8 bits
		if v.FWMark == 0 {
			server.At = netip.AddrPortFrom(v.Address.Unmap(), v.Port)
		}
		out = append(out, server)
	}
	return out, err
}

func (s *system) deleteServer(v Server) error {
	client, err := s.client()
	if client == nil || err != nil {
		return err
	}
	family := ipvs.INET
	if v.IPv6 {
		family = ipvs.INET6
	}
	err = client.RemoveService(ipvs.Service{Address: v.At.Addr(), Port: v.At.Port(), Protocol: ipvs.Protocol(v.Protocol), Family: family})
	if errors.Is(err, unix.ESRCH) { // it went meanwhile
		return nil
	}
	return err
}

// request asks for an ipset, or does something with it.
func request(command int, name string, more ...nl.NetlinkRequestData) error {
	r := nl.NewNetlinkRequest(command|unix.NFNL_SUBSYS_IPSET<<8, nl.GetIpsetFlags(command))
	r.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
	r.AddData(nl.NewRtAttr(nl.IPSET_ATTR_PROTOCOL, nl.Uint8Attr(nl.IPSET_PROTOCOL)))
	r.AddData(nl.NewRtAttr(nl.IPSET_ATTR_SETNAME, nl.ZeroTerminated(name)))
	for _, data := range more {
		r.AddData(data)
	}
	_, err := r.Execute(unix.NETLINK_NETFILTER, 0)
	return err
}

func (s *system) hasSet(name string) (bool, error) {
	if !s.has("sys/module/ip_set") {
		return false, nil
	}
	err := request(nl.IPSET_CMD_HEADER, name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) { // there is no such set, or no ipset at all
		return false, nil
	}
	return err == nil, err
}

// inSet is not netlink.IpsetTest: that names a protocol, which the kernel refuses where the ipset has only ports.
func (*system) inSet(name string, v Server) (bool, error) {
	data := nl.NewRtAttr(nl.IPSET_ATTR_DATA|unix.NLA_F_NESTED, nil)
	data.AddRtAttr(nl.IPSET_ATTR_PORT|unix.NLA_F_NET_BYTEORDER, binary.BigEndian.AppendUint16(nil, v.At.Port()))
	if v.Protocol == unix.IPPROTO_SCTP { // by address and port
		kind := nl.IPSET_ATTR_IPADDR_IPV4
		if v.IPv6 {
			kind = nl.IPSET_ATTR_IPADDR_IPV6
		}
		data.AddRtAttr(nl.IPSET_ATTR_PROTO, []byte{v.Protocol})
		data.AddRtAttr(nl.IPSET_ATTR_IP|unix.NLA_F_NESTED, nil).AddRtAttr(kind|unix.NLA_F_NET_BYTEORDER, v.At.Addr().AsSlice())
	}
	err := request(nl.IPSET_CMD_TEST, name, data)
	if errors.Is(err, unix.Errno(nl.IPSET_ERR_EXIST)) || errors.Is(err, unix.ENOENT) { // neither is that an error
		return false, nil
	}
	return err == nil, err
}

func (*system) deleteSet(name string) error {
	err := request(nl.IPSET_CMD_DESTROY, name)
	switch {
	case errors.Is(err, unix.ENOENT): // it went meanwhile
		return nil
	case errors.Is(err, unix.Errno(nl.IPSET_ERR_BUSY)):
		return errInUse
	}
	return err
}
