// SPDX-License-Identifier: Apache-2.0

//go:build linux

package usage

import (
	"os"
	"testing"
)

// What this process takes is known to be something; one that is not there is an error.
func TestUsage(t *testing.T) {
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	before, err := Descriptors(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if after, err := Descriptors(os.Getpid()); err != nil || after != before-1 {
		t.Errorf("%d descriptors after one of %d was closed: %v", after, before, err)
	}
	if mb, err := MemoryMB(os.Getpid(), "VmRSS"); err != nil || mb < 1 || mb > 10000 {
		t.Errorf("%v MB: %v", mb, err)
	}
	if _, err := MemoryMB(os.Getpid(), "VmNothing"); err == nil {
		t.Error("a size that there is not was read")
	}
	if _, err := CPUTime(os.Getpid()); err != nil {
		t.Error(err)
	}
	for _, err := range []error{second(CPUTime(-1)), second(MemoryMB(-1, "VmRSS")), second(Descriptors(-1))} {
		if err == nil {
			t.Error("no error about a process that is not there")
		}
	}
}

func second[T any](_ T, err error) error { return err }
