// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/klog/v2"
)

// TestMain fails if client-go logged anything during the tests: what there is to say goes to Warn.
func TestMain(m *testing.M) {
	var log bytes.Buffer
	klog.LogToStderr(false)
	klog.SetOutput(&log)
	// The other one sleeps up to 1 ms by a time that it shares between tests, which have different clocks.
	utilruntime.ErrorHandlers = utilruntime.ErrorHandlers[:1]
	code := m.Run()
	klog.Flush()
	klog.SetOutput(os.Stderr)
	if log.Len() > 0 {
		fmt.Printf("client-go logged:\n%s", log.String())
		code = 1
	}
	os.Exit(code)
}
