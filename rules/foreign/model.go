// SPDX-License-Identifier: Apache-2.0

//go:build linux

package foreign

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// Dump is a table as the kernel lists it: the attributes of each message.
type Dump struct {
	Family   rules.Family
	Table    string
	Chains   []nfnetlink.Data
	Rules    []nfnetlink.Data
	Sets     []nfnetlink.Data
	Elements map[string][]nfnetlink.Data // by the sets' names
}

// KubeProxyTable is the name of kube-proxy's own tables, in its nftables mode.
const KubeProxyTable = "kube-proxy"

// IptablesTables are the tables of iptables-nft that kube-proxy uses in its other modes.
func IptablesTables() []string { return []string{"nat", "filter", "mangle"} }

// kubeChain matches the chains of iptables that are followed: kube-proxy's of its iptables mode, and the kubelet's that drops what
// kube-proxy before 1.28 marked.
var kubeChain = regexp.MustCompile(`^KUBE-(SERVICES|NODEPORTS|POSTROUTING|MARK-MASQ|MARK-DROP|FORWARD|EXTERNAL-SERVICES|PROXY-FIREWALL|FIREWALL|(SVC|SVL|SEP|EXT|FW|XLB)-[A-Z0-9]{16})$`)

// Ruleset is what packets are followed through.
type Ruleset struct{ tables []*table }

type table struct {
	family rules.Family
	name   string
	chains map[string]*chain
	sets   map[string]*set
}

type chain struct {
	name     string
	base     bool
	hook     uint32
	priority int32
	rules    []rule
}

type rule struct {
	ops   []op
	facts facts
}

// facts are what a rule asks for that tells which frontend it is about.
type facts struct {
	daddr   []byte
	proto   byte
	dport   uint16
	comment string
	goes    string // the chain that it leads to
	ends    bool   // it drops or rejects
}

// set is a set or a map. Keys and values are bytes as registers hold them.
type set struct {
	name      string
	flags     uint32
	keyLen    int
	timeout   uint64 // milliseconds
	fields    []int  // lengths of a concatenation's fields, in bytes
	exact     map[string]*element
	intervals []interval
	all       *element // of the catch-all element
}

type element struct {
	key     []byte
	data    []byte
	verdict *verdict
	comment string
}

type interval struct {
	from, to []byte // to is part of it, unless open; nil: to the end
	open     bool
	element  *element
}

// New reads tables.
func New(dumps []Dump) (*Ruleset, error) {
	r := &Ruleset{}
	for i := range dumps {
		d := &dumps[i]
		t := &table{family: d.Family, name: d.Table, chains: map[string]*chain{}, sets: map[string]*set{}}
		for _, m := range d.Sets {
			s := readSet(m)
			t.sets[s.name] = s
			for _, list := range d.Elements[s.name] {
				s.read(list)
			}
			s.sort()
		}
		for _, m := range d.Chains {
			if c, of := readChain(m); of == t.name {
				t.chains[c.name] = c
			}
		}
		for _, m := range d.Rules {
			if err := t.readRule(m); err != nil {
				return nil, fmt.Errorf("table %s %s: %w", t.family, t.name, err)
			}
		}
		r.tables = append(r.tables, t)
	}
	return r, nil
}

// Serves says whether there are rules of kube-proxy's that lead to endpoints, or could.
func (r *Ruleset) Serves() bool { return r.Mode() != "" }

// Mode returns kube-proxy's mode: nftables or iptables; "" if none of its rules are there.
func (r *Ruleset) Mode() string {
	for _, t := range r.tables {
		if t.name == KubeProxyTable {
			return "nftables"
		}
		if t.chains["KUBE-SERVICES"] != nil {
			return "iptables"
		}
	}
	return ""
}

func (t *table) iptables() bool { return slices.Contains(IptablesTables(), t.name) }

func readChain(m nfnetlink.Data) (c *chain, table string) {
	c = &chain{}
	for typ, v := range m.Attributes() {
		switch typ {
		case unix.NFTA_CHAIN_TABLE:
			table = v.Text()
		case unix.NFTA_CHAIN_NAME:
			c.name = v.Text()
		case unix.NFTA_CHAIN_HOOK:
			c.base = true
			for typ, v := range v.Attributes() {
				switch typ {
				case unix.NFTA_HOOK_HOOKNUM:
					c.hook = v.U32()
				case unix.NFTA_HOOK_PRIORITY:
					c.priority = int32(v.U32()) //nolint:gosec // it is signed, in the same bits
				}
			}
		}
	}
	return c, table
}

func (t *table) readRule(m nfnetlink.Data) error {
	var name string
	var expressions nfnetlink.Data
	for typ, v := range m.Attributes() {
		switch typ {
		case unix.NFTA_RULE_TABLE:
			if v.Text() != t.name {
				return nil
			}
		case unix.NFTA_RULE_CHAIN:
			name = v.Text()
		case unix.NFTA_RULE_EXPRESSIONS:
			expressions = v
		}
	}
	c := t.chains[name]
	if c == nil {
		return fmt.Errorf("a rule is in chain %s, which was not listed", name)
	}
	if t.iptables() && !c.base && !kubeChain.MatchString(name) {
		return nil
	}
	r := t.compile(expressions)
	if t.iptables() && c.base && !kubeChain.MatchString(r.facts.goes) {
		return nil
	}
	c.rules = append(c.rules, r)
	return nil
}

func readSet(m nfnetlink.Data) *set {
	s := &set{exact: map[string]*element{}}
	for typ, v := range m.Attributes() {
		switch typ {
		case unix.NFTA_SET_NAME:
			s.name = v.Text()
		case unix.NFTA_SET_FLAGS:
			s.flags = v.U32()
		case unix.NFTA_SET_KEY_LEN:
			s.keyLen = int(v.U32())
		case unix.NFTA_SET_TIMEOUT:
			s.timeout = v.U64()
		case unix.NFTA_SET_DESC:
			s.fields = fieldLengths(v)
		}
	}
	return s
}

// fieldLengths reads the fields of a concatenation.
func fieldLengths(desc nfnetlink.Data) (out []int) {
	const concat, fieldLen = 2, 1 // NFTA_SET_DESC_CONCAT, NFTA_SET_FIELD_LEN
	for typ, v := range desc.Attributes() {
		if typ != concat {
			continue
		}
		for _, field := range v.Attributes() {
			for typ, v := range field.Attributes() {
				if typ == fieldLen {
					out = append(out, nfnetlink.Align(int(v.U32())))
				}
			}
		}
	}
	return out
}

// read reads a list of elements.
func (s *set) read(list nfnetlink.Data) {
	const keyEnd, catchAll = 10, 2 // NFTA_SET_ELEM_KEY_END, NFT_SET_ELEM_CATCHALL
	for typ, v := range list.Attributes() {
		if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			continue
		}
		for _, one := range v.Attributes() {
			e, flags, end := &element{}, uint32(0), []byte(nil)
			for typ, v := range one.Attributes() {
				switch typ {
				case unix.NFTA_SET_ELEM_KEY:
					e.key = valueOf(v)
				case keyEnd:
					end = valueOf(v)
				case unix.NFTA_SET_ELEM_DATA:
					e.data, e.verdict = dataOf(v)
				case unix.NFTA_SET_ELEM_FLAGS:
					flags = v.U32()
				case unix.NFTA_SET_ELEM_USERDATA:
					e.comment = commentOf(v)
				}
			}
			switch {
			case flags&catchAll != 0:
				s.all = e
			case s.flags&unix.NFT_SET_INTERVAL == 0:
				s.exact[string(e.key)] = e
			case end != nil:
				s.intervals = append(s.intervals, interval{from: e.key, to: end, element: e})
			default: // with its end as an element of its own
				s.intervals = append(s.intervals, interval{from: e.key, open: flags&unix.NFT_SET_ELEM_INTERVAL_END != 0, element: e})
			}
		}
	}
}

// sort joins beginnings and ends of intervals that are elements of their own.
func (s *set) sort() {
	if s.flags&unix.NFT_SET_INTERVAL == 0 || len(s.fields) > 1 {
		return
	}
	slices.SortStableFunc(s.intervals, func(a, b interval) int {
		ends := func(i interval) int {
			if i.open {
				return 0
			}
			return 1
		}
		return cmp.Or(bytes.Compare(a.from, b.from), cmp.Compare(ends(a), ends(b)))
	})
	var out []interval
	for _, i := range s.intervals {
		switch {
		case !i.open:
			out = append(out, i)
		case len(out) > 0 && out[len(out)-1].to == nil:
			out[len(out)-1].to, out[len(out)-1].open = i.from, true
		}
	}
	s.intervals = out
}

// lookUp returns the element that a key has; nil if none.
func (s *set) lookUp(key []byte) *element {
	if e := s.exact[string(key)]; e != nil {
		return e
	}
	for i := range s.intervals {
		if s.intervals[i].has(key, s.fields) {
			return s.intervals[i].element
		}
	}
	return s.all
}

func (i *interval) has(key []byte, fields []int) bool {
	if len(fields) < 2 {
		return bytes.Compare(key, i.from) >= 0 &&
			(i.to == nil || bytes.Compare(key, i.to) < 0 || !i.open && bytes.Equal(key, i.to))
	}
	for _, n := range fields {
		if len(key) < n || len(i.from) < n || len(i.to) < n || bytes.Compare(key[:n], i.from[:n]) < 0 || bytes.Compare(key[:n], i.to[:n]) > 0 {
			return false
		}
		key, i = key[n:], &interval{from: i.from[n:], to: i.to[n:]}
	}
	return true
}

// valueOf reads the bytes of a NFTA_DATA_VALUE.
func valueOf(v nfnetlink.Data) []byte {
	data, _ := dataOf(v)
	return data
}

// dataOf reads bytes or a verdict.
func dataOf(v nfnetlink.Data) (data []byte, to *verdict) {
	for typ, v := range v.Attributes() {
		switch typ {
		case unix.NFTA_DATA_VALUE:
			data = v
		case unix.NFTA_DATA_VERDICT:
			to = &verdict{}
			for typ, v := range v.Attributes() {
				switch typ {
				case unix.NFTA_VERDICT_CODE:
					to.code = int32(v.U32()) //nolint:gosec // it is signed, in the same bits
				case unix.NFTA_VERDICT_CHAIN:
					to.chain = v.Text()
				}
			}
		}
	}
	return data, to
}

// commentOf reads a comment as nft stores it in user data: type 0, a length, and a text with a zero byte.
func commentOf(v nfnetlink.Data) string {
	for len(v) >= 2 && len(v) >= 2+int(v[1]) {
		if v[0] == 0 {
			return strings.TrimRight(string(v[2:2+int(v[1])]), "\x00")
		}
		v = v[2+int(v[1]):]
	}
	return ""
}
