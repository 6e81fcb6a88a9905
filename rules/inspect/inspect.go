// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inspect

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// Inspector looks at the nftables of one network namespace. Its methods may be called from any thread. They need
// CAP_NET_ADMIN in the user namespace that the network namespace belongs to.
type Inspector struct {
	mu   sync.Mutex // one request at a time
	sock *nfnetlink.Socket
}

// Open opens the nftables of the calling thread's network namespace.
func Open() (*Inspector, error) {
	s, err := nfnetlink.Open(nfnetlink.Options{ReceiveBuffer: receiveBuffer})
	if err != nil {
		return nil, err
	}
	return &Inspector{sock: s}, nil
}

// Close closes the socket.
func (i *Inspector) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.sock.Close()
}

// ask sends a request and calls fn for the attributes of each object in the answer.
func (i *Inspector) ask(request *nfnetlink.Builder, fn func(nfnetlink.Data)) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return wire.Permission(i.sock.Ask(context.Background(), request, func(m nfnetlink.Message) { fn(m.Body()) }))
}

// sets returns the declarations of a table's sets that are ours. ENOENT says that there is no such table.
func (i *Inspector) sets(f rules.Family, table string) (sets map[rules.SetID]wire.Set, err error) {
	err = nfnetlink.Again(func() error {
		sets = map[rules.SetID]wire.Set{}
		return i.ask(wire.GetSets(f, table), func(v nfnetlink.Data) {
			if s := wire.ParseSet(v); !s.Anonymous() {
				if id, ours := s.Ours(f); ours {
					sets[id] = s
				}
			}
		})
	})
	return sets, err
}

// elements calls fn for each element of a set whose key can be ours. Where the set changes meanwhile, it may call it twice for
// one, or not at all for another. A set that has gone has no elements.
func (i *Inspector) elements(f rules.Family, table string, id rules.SetID, fn func(wire.Element)) error {
	err := i.ask(wire.GetElements(f, table, id), func(v nfnetlink.Data) {
		wire.EachElement(f, id.Kind, v, func(e wire.Element) {
			if e.OddKey == "" {
				fn(e)
			}
		})
	})
	if errors.Is(err, nfnetlink.ErrInterrupted) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// eachSet calls fn for each set of ours in the tables of a name.
func (i *Inspector) eachSet(table string, fn func(f rules.Family, id rules.SetID, s wire.Set) error) error {
	for _, f := range rules.Families {
		sets, err := i.sets(f, table)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("list the sets of table %s %s: %w", f, table, err)
		}
		for id, s := range sets {
			if err := fn(f, id, s); err != nil {
				return fmt.Errorf("read %s of table %s %s: %w", id.Name(), f, table, err)
			}
		}
	}
	return nil
}
