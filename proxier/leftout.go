// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"

	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
)

// leftOut is how many endpoints owners do without because there are too many.
type leftOut struct {
	*teller
	of        map[rules.Owner]int
	services  map[cluster.ObjectName]int // how many such owners each has
	endpoints int                        // of all
}

func newLeftOut(t *teller) leftOut {
	return leftOut{teller: t, of: map[rules.Owner]int{}, services: map[cluster.ObjectName]int{}}
}

// set notes how many endpoints an owner does without, and says whether it is the first one of its Service.
func (l *leftOut) set(o rules.Owner, n int) (first bool) {
	was, service := l.of[o], cluster.ServiceOf(o)
	l.endpoints += n - was
	switch {
	case n == 0 && was > 0:
		delete(l.of, o)
		if l.services[service]--; l.services[service] == 0 {
			delete(l.services, service)
		}
	case n > 0:
		if l.of[o] = n; was == 0 {
			l.services[service]++
		}
		first = was == 0 && l.services[service] == 1
	}
	return first
}

// report notes how many endpoints beyond a limit an owner does without, and tells, once, that its Service has more than it can.
func (l *leftOut) report(o rules.Owner, n, limit int) {
	if !l.set(o, n) {
		return
	}
	text := fmt.Sprintf("service %s: %s", cluster.ServiceOf(o), reason.TooManyEndpoints.Text(n, limit))
	l.log.Info("Skipped", "reason", text)
	l.service(cluster.ServiceOf(o), reason.TooManyEndpoints.Event(), text)
}
