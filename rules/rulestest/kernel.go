// SPDX-License-Identifier: Apache-2.0

package rulestest

import (
	"sync"
	"syscall"

	"github.com/nftproxy/nftproxy/rules"
)

// Kernel holds tables in memory. It may be used by several goroutines. Its zero
// value is a kernel without tables.
type Kernel struct {
	mu      sync.Mutex
	state   rules.State
	refuse  func(rules.Op) bool
	readErr error
	failErr error
	applied []rules.Tx
	refused int
}

// Refuse makes the kernel refuse transactions with an operation that fn says true
// to, as EINVAL and with that operation's object; nil ends it.
func (k *Kernel) Refuse(fn func(rules.Op) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refuse = fn
}

// FailReads makes Read return an error; nil ends it.
func (k *Kernel) FailReads(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.readErr = err
}

// FailApplies makes Apply return an error, and do nothing; nil ends it.
func (k *Kernel) FailApplies(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failErr = err
}

// State returns a copy of what the kernel holds.
func (k *Kernel) State() rules.State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state.Clone()
}

// Tamper changes what the kernel holds behind the proxier's back.
func (k *Kernel) Tamper(fn func(*rules.State)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	fn(&k.state)
}

// Applied returns the transactions that were carried out since the last call.
func (k *Kernel) Applied() []rules.Tx {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := k.applied
	k.applied = nil
	return out
}

// Refused returns how many transactions were refused.
func (k *Kernel) Refused() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.refused
}

// Read implements proxier.Kernel.
func (k *Kernel) Read(table string) (rules.State, error) {
	s := k.State()
	s.Name = table
	k.mu.Lock()
	defer k.mu.Unlock()
	return s, k.readErr
}

// Apply implements proxier.Kernel.
func (k *Kernel) Apply(tx rules.Tx) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failErr != nil {
		k.refused++
		return k.failErr
	}
	if err := k.plannedRefusal(tx); err != nil {
		k.refused++
		return err
	}
	state, err := k.state.Apply(tx)
	if err != nil {
		k.refused++
		return err
	}
	k.state = state
	k.applied = append(k.applied, tx)
	return nil
}

func (k *Kernel) plannedRefusal(tx rules.Tx) error {
	if k.refuse == nil {
		return nil
	}
	var objects []rules.Object
	for _, op := range tx.Ops() {
		if k.refuse(op) {
			objects = append(objects, op.Object(tx.Name))
		}
	}
	if objects == nil {
		return nil
	}
	return &rules.Refusal{Objects: objects, Untouched: true, Err: syscall.EINVAL}
}

// Scan implements proxier.Kernel.
func (k *Kernel) Scan(_ string, things []rules.Thing, to rules.Parts) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.readErr == nil {
		k.state.Scan(things, to)
	}
	return k.readErr
}
