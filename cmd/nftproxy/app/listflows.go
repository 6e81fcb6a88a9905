// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/top"
)

func fetchConnections(ctx context.Context, c *ask.Client, of ask.Choice) ([]listItem, error) {
	list, err := c.Connections(ctx, of)
	out := make([]listItem, len(list))
	for i := range list {
		l := &list[i]
		used := "yes"
		if !l.Used {
			used = "no"
		}
		bytes := ""
		if l.Bytes > 0 {
			bytes = top.BytesText(l.Bytes)
		}
		out[i] = listItem{l, "", l.Namespace, [][]string{{l.Name, l.Port, l.Frontend, l.Endpoint, strconv.Itoa(l.Open), used, bytes, l.Family}}}
	}
	return out, err
}

func fetchAffinity(ctx context.Context, c *ask.Client, of ask.Choice) ([]listItem, error) {
	answer, err := c.Affinity(ctx, of)
	if err == nil && answer.More > 0 {
		err = fmt.Errorf("%d clients are more than can be listed: choose one Service, or look at metric nftproxy_affinity_clients", len(answer.Clients)+answer.More)
	}
	out := make([]listItem, len(answer.Clients))
	for i := range answer.Clients {
		l := &answer.Clients[i]
		endpoint := l.Endpoint
		if l.Gone {
			endpoint += " (gone)"
		}
		left := (time.Duration(min(l.Seconds, math.MaxInt32)) * time.Second).String()
		out[i] = listItem{l, "", l.Namespace, [][]string{{l.Name, l.Port, l.Client, endpoint, left, l.Policy, l.Family}}}
	}
	return out, err
}

// rateTime is how long connections are counted for a rate.
const rateTime = time.Second

// addRates fills the column of new connections a second in rows of Services, where the kernel counts them.
func addRates(ctx context.Context, c *ask.Client, namespace string, l *listing, list []listItem) error {
	column := len(l.header) + slices.Index(l.wide, "NEW/S")
	before, err := c.Counts(ctx, namespace)
	if err != nil || !before.Counted || len(list) == 0 {
		return err
	}
	select {
	case <-time.After(rateTime):
	case <-ctx.Done():
		return nil
	}
	after, err := c.Counts(ctx, namespace)
	if err != nil {
		return err
	}
	had := map[ask.Owner]uint64{}
	for _, n := range before.Counts {
		had[n.Owner] = n.New
	}
	rates := map[ask.Owner]float64{}
	for _, n := range after.Counts {
		if n.New > had[n.Owner] {
			rates[n.Owner] = float64(n.New-had[n.Owner]) / after.At.Sub(before.At).Seconds()
		}
	}
	for i := range list {
		s := list[i].item.(*ask.Service)
		for j := range s.Ports {
			p := &s.Ports[j]
			rate := rates[ask.Owner{Namespace: s.Namespace, Name: s.Name, Port: p.Port, Family: p.Family}]
			list[i].rows[j][column] = strconv.FormatFloat(rate, 'f', 1, 64)
		}
	}
	return nil
}
