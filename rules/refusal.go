// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"strings"
)

// Refusal is the error of a transaction that the kernel refused.
type Refusal struct {
	// Objects are what the kernel refused. There are none when it refused the transaction as a whole.
	Objects []Object
	// Untouched says that the kernel holds what it held before. Otherwise a part of the transaction was carried out.
	Untouched bool
	// Err is what the kernel said.
	Err error
}

// Error names the objects, three at most, and what the kernel said.
func (r *Refusal) Error() string {
	var b strings.Builder
	b.WriteString("kernel refused ")
	for i, o := range r.Objects {
		if i == 3 {
			fmt.Fprintf(&b, "; and %d more", len(r.Objects)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString("to " + o.String())
	}
	if len(r.Objects) == 0 {
		b.WriteString("the transaction")
	}
	return fmt.Sprintf("%s: %v", &b, r.Err)
}

// Unwrap returns what the kernel said.
func (r *Refusal) Unwrap() error { return r.Err }

// RefusalOf returns the refusal that an error is about. Of any other error it is not known what the kernel
// refused, nor what it holds now: the Refusal has no Objects and is not Untouched.
func RefusalOf(err error) Refusal {
	var r *Refusal
	if !errors.As(err, &r) {
		return Refusal{Err: err}
	}
	return *r
}
