// SPDX-License-Identifier: Apache-2.0

package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/nftproxy/nftproxy/printable"
)

// tell writes an error; of joined errors a line each.
func tell(stderr io.Writer, err error) { fmt.Fprintf(stderr, "nftproxy: %s\n", faultText(err)) }

// tellJSON writes the last line of a program whose log is JSON.
func tellJSON(stderr io.Writer, err error) {
	_ = json.NewEncoder(stderr).Encode(struct {
		Time    float64 `json:"ts"` // in milliseconds, as in the lines before
		Message string  `json:"msg"`
		Error   string  `json:"err"`
	}{float64(time.Now().UnixMicro()) / 1000, "nftproxy ends", faultText(err)})
}

func faultText(err error) string {
	if coded, ok := err.(*exitError); ok { //nolint:errorlint // its own text is the cause's
		err = coded.err
	}
	text := strings.Join(lines(err), "\n")
	if errors.Is(err, syscall.EMFILE) {
		text += ": raise the limit of open files (RLIMIT_NOFILE)"
	}
	return text
}

func lines(err error) []string {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []string{printable.Error(err)}
	}
	var out []string
	for _, one := range joined.Unwrap() {
		out = append(out, lines(one)...)
	}
	return out
}

// loggedFault is an error of a program whose log is JSON.
type loggedFault struct{ error }

func (l *loggedFault) Unwrap() error { return l.error }

// oneLine returns an error whose text comes from elsewhere as one that is fit for the log: of several lines klog would make several.
func oneLine(err error) error { return errors.New(strings.Join(lines(err), "; ")) }
