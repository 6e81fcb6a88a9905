// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"bufio"
	"fmt"
	"net/netip"
	"strings"
)

// answer is what a server says, as one line of text: the question that it
// answers, who it is, and whom it saw.
type answer struct {
	question string // a word
	backend  netip.AddrPort
	peer     netip.AddrPort
}

func (a answer) String() string { return fmt.Sprintf("%s %s %s", a.question, a.backend, a.peer) }

func parseAnswer(text string) (answer, error) {
	words := strings.Fields(text)
	if len(words) != 3 {
		return answer{}, fmt.Errorf("parse answer %q: want a question and two addresses", text)
	}
	a := answer{question: words[0]}
	var err error
	if a.backend, err = netip.ParseAddrPort(words[1]); err != nil {
		return answer{}, fmt.Errorf("parse answer %q: backend: %w", text, err)
	}
	if a.peer, err = netip.ParseAddrPort(words[2]); err != nil {
		return answer{}, fmt.Errorf("parse answer %q: peer: %w", text, err)
	}
	return a, nil
}

// readAnswer reads the answer to a question, past answers to earlier ones that came
// too late for them.
func readAnswer(lines *bufio.Reader, question string) (answer, error) {
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return answer{}, err
		}
		if a, err := parseAnswer(line); err != nil || a.question == question {
			return a, err
		}
	}
}
