// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"strings"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/inspect"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// ownership says whether tables can have an owner, and who can change those that there are.
func (n *Node) ownership(r *Report, k *kernel.Kernel, i *inspect.Inspector) {
	const what = "owned tables"
	can, err := k.CanOwn()
	if err != nil {
		r.warning(what, printable.Error(err))
		return
	}
	if !can {
		r.ok(what, "the kernel has none (Linux 6.9 does): what other programs change in nftproxy's tables is repaired, not refused")
		return
	}
	tenures, err := i.Tenures(n.Table)
	if err != nil {
		r.warning(what, printable.Error(err))
		return
	}
	text, free := owners(n.Table, tenures)
	pid, _ := n.Running()
	switch {
	case text == "":
		r.ok(what, "the kernel has them; there are no tables of nftproxy's yet")
	case free && pid != "":
		r.warning(what, text+"; what other programs change is repaired, not refused: nftproxy runs with --own-tables=never, or is of a version without it")
	default:
		r.ok(what, text)
	}
}

// owners says who can change tables, and whether anybody can change one that nobody will take over.
func owners(table string, tenures [2]*rules.Tenure) (text string, free bool) {
	var list []string
	for _, f := range rules.Families {
		t := tenures[f]
		if t == nil {
			continue
		}
		who := "anybody can change it"
		switch by := t.By; {
		case by.PID != 0:
			who = fmt.Sprintf("only process %d (%s) can change it", by.PID, printable.Word(by.Name))
		case t.Owner:
			who = fmt.Sprintf("only a process that /proc does not show here can change it (netlink port %d)", t.Port)
		case t.Orphaned():
			who = "its owner has ended, and the next nftproxy takes it over"
		default:
			free = true
		}
		list = append(list, fmt.Sprintf("%s %s: %s", f, printable.Word(table), who))
	}
	return strings.Join(list, "; "), free
}
