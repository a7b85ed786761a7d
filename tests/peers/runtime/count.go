//go:build !before_0_12

package main

import (
	"sort"
	"sync"
	"time"

	nri "github.com/containerd/nri/pkg/adaptation"
)

// counted is what the adaptation tells of its plugins by way of metrics, which is all it tells.
var counted = &counter{called: map[string]bool{}}

type counter struct {
	lock    sync.Mutex
	current int
	called  map[string]bool
	changed func(int)
}

func (c *counter) count() int {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.current
}

func (c *counter) names() []string {
	c.lock.Lock()
	defer c.lock.Unlock()
	names := []string{}
	for name := range c.called {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// UpdatePluginCount implements nri.Metrics.
func (c *counter) UpdatePluginCount(count int) {
	c.lock.Lock()
	differs := count != c.current
	c.current = count
	c.lock.Unlock()
	if differs {
		c.changed(count)
	}
}

// RecordPluginInvocation implements nri.Metrics.
func (c *counter) RecordPluginInvocation(name, _ string, _ error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.called[name] = true
}

// RecordPluginLatency implements nri.Metrics.
func (*counter) RecordPluginLatency(string, string, time.Duration) {}

// RecordPluginAdjustments implements nri.Metrics.
func (*counter) RecordPluginAdjustments(string, string, *nri.ContainerAdjustment, int, int) {}
