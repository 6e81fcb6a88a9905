// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// longestEvent bounds a line of a stream.
const longestEvent = 4 << 20

// Watch calls fn for each event of /v1/watch until ctx ends or fn fails. The first comes at once, and says that all may have changed.
func (c *Client) Watch(ctx context.Context, fn func(Change) error) error {
	question, err := request(ctx, "/v1/watch", nil)
	if err != nil {
		return err
	}
	answer, err := Transport(c.path).RoundTrip(question)
	if err != nil {
		return fmt.Errorf("watch the nftproxy at %s: %w", c.path, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return refusedBy(answer)
	}
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, longestEvent)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ") // each event has one such line
		if !ok {
			continue
		}
		var ch Change
		if err := json.Unmarshal([]byte(data), &ch); err != nil {
			return fmt.Errorf("read an event of the nftproxy at %s: %w", c.path, err)
		}
		if err := fn(ch); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("watch the nftproxy at %s: %w", c.path, cmp.Or(lines.Err(), io.ErrUnexpectedEOF))
}
