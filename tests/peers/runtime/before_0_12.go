//go:build before_0_12

package main

import (
	"context"
	"errors"
	"reflect"
	"time"

	nri "github.com/containerd/nri/pkg/adaptation"
)

var errNewer = errors.New("not every NRI before 0.12 has this")

func updatePod(context.Context, *runtime, *request) (line, error) { return nil, errNewer }

func postUpdatePod(context.Context, *runtime, *request) (line, error) { return nil, errNewer }

func (r *runtime) plugins() line { return line{"count": r.connected()} }

// connected is read from where the adaptation keeps them, for it does not tell.
func (r *runtime) connected() int {
	r.Lock()
	defer r.Unlock()
	count := 0
	plugins := reflect.ValueOf(r.Adaptation).Elem().FieldByName("plugins")
	for i := range plugins.Len() {
		if !plugins.Index(i).Elem().FieldByName("closed").Bool() {
			count++
		}
	}
	return count
}

func (r *runtime) watch(changed func(int)) {
	go func() {
		for last := 0; ; time.Sleep(5 * time.Millisecond) {
			if count := r.connected(); count != last {
				last = count
				changed(count)
			}
		}
	}()
}

// There is nothing to block before 0.8: ask only when nothing is just connecting.
func (r *runtime) block() func() { return func() {} }

func (s *settings) newer() []nri.Option { return nil }
