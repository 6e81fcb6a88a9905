// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"

	"github.com/nftproxy/nftproxy/reason"
)

// maxFaults is how many faults of one object are told of. It may have as many as its writer likes.
const maxFaults = 8

// faultList gathers what is wrong with an object, up to a bound.
type faultList struct {
	list []error
	more int
}

func (l *faultList) add(err error) {
	if len(l.list) == maxFaults {
		l.more++
		return
	}
	l.list = append(l.list, err)
}

// errs returns them, and how many more there are.
func (l *faultList) errs(object string) []error {
	if l.more == 0 {
		return l.list
	}
	return append(l.list, fmt.Errorf("%s: %s", object, reason.MoreFaults.Text(l.more)))
}
