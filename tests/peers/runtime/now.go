//go:build !before_0_12

package main

import (
	"context"

	nri "github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	validator "github.com/containerd/nri/plugins/default-validator"
)

func updatePod(ctx context.Context, r *runtime, q *request) (line, error) {
	_, err := r.UpdatePodSandbox(ctx, &api.UpdatePodSandboxRequest{Pod: q.Pod.sandbox()})
	return nil, err
}

func postUpdatePod(ctx context.Context, r *runtime, q *request) (line, error) {
	return nil, r.PostUpdatePodSandbox(ctx, &api.PostUpdatePodSandboxRequest{Pod: q.Pod.sandbox()})
}

func (r *runtime) plugins() line {
	return line{"count": counted.count(), "called": counted.names()}
}

func (r *runtime) watch(changed func(int)) {
	counted.changed = changed
}

// As containerd does: a plugin that was just told of all pods also gets the event that comes now.
func (r *runtime) block() func() {
	return r.BlockPluginSync().Unblock
}

func (s *settings) newer() []nri.Option {
	options := []nri.Option{nri.WithMetrics(counted)}
	if s.required != "" {
		options = append(options, nri.WithDefaultValidator(&validator.DefaultValidatorConfig{
			Enable: true, RequiredPlugins: []string{s.required},
		}))
	}
	return options
}
