// The runtime side of NRI as Go has it, without a container runtime: events are asked for by JSON
// lines on stdin and done at once, each answered on a line of stdout that echoes its "seq".
// Lines with an "event" come unasked: "launched" (the plugins that it starts itself were told of all
// pods), "listening", "synchronized" (one that connected was), "updated" (one asked to update
// containers), "plugins" (their number changed).
//
// now.go is what differs between today's NRI and those of before_0_12.go.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"

	nri "github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
)

type podDocument struct {
	ID             string            `json:"id"`
	Name           string            `json:"name"`
	UID            string            `json:"uid"`
	Namespace      string            `json:"namespace"`
	Labels         map[string]string `json:"labels"`
	Annotations    map[string]string `json:"annotations"`
	RuntimeHandler string            `json:"runtimeHandler"`
	Netns          string            `json:"netns"` // missing: no network namespace is told
	Pid            uint32            `json:"pid"`
}

type containerDocument struct {
	ID          string            `json:"id"`
	Pod         string            `json:"pod"`
	Name        string            `json:"name"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	Pid         uint32            `json:"pid"`
}

type request struct {
	Seq        json.RawMessage     `json:"seq"`
	Op         string              `json:"op"`
	Pod        podDocument         `json:"pod"`
	Container  containerDocument   `json:"container"`
	Pods       []podDocument       `json:"pods"`
	Containers []containerDocument `json:"containers"`
	Timeout    float64             `json:"timeout"` // seconds until the caller gives up; 0: never
}

type line map[string]any

type runtime struct {
	*nri.Adaptation
	lock       sync.Mutex // of what Synchronize sends
	launched   bool       // the first Synchronize is for launched plugins, if there are any or not
	pods       []*api.PodSandbox
	containers []*api.Container
	out        *json.Encoder
	outLock    sync.Mutex
}

type operation func(context.Context, *runtime, *request) (line, error)

var operations = map[string]operation{
	"pods": func(_ context.Context, r *runtime, q *request) (line, error) {
		r.setPods(q)
		return nil, nil
	},
	"plugins": func(_ context.Context, r *runtime, _ *request) (line, error) {
		return r.plugins(), nil
	},
	"run": func(ctx context.Context, r *runtime, q *request) (line, error) {
		return nil, r.RunPodSandbox(ctx, &api.RunPodSandboxRequest{Pod: q.Pod.sandbox()})
	},
	"update-pod":      updatePod,
	"post-update-pod": postUpdatePod,
	"stop": func(ctx context.Context, r *runtime, q *request) (line, error) {
		return nil, r.StopPodSandbox(ctx, &api.StopPodSandboxRequest{Pod: q.Pod.sandbox()})
	},
	"remove": func(ctx context.Context, r *runtime, q *request) (line, error) {
		return nil, r.RemovePodSandbox(ctx, &api.RemovePodSandboxRequest{Pod: q.Pod.sandbox()})
	},
	"create": func(ctx context.Context, r *runtime, q *request) (line, error) {
		got, err := r.CreateContainer(ctx, &api.CreateContainerRequest{
			Pod: q.Pod.sandbox(), Container: q.Container.container(),
		})
		return line{"adjust": got.GetAdjust()}, err
	},
	"start-container": func(ctx context.Context, r *runtime, q *request) (line, error) {
		return nil, r.StartContainer(ctx, &api.StartContainerRequest{
			Pod: q.Pod.sandbox(), Container: q.Container.container(),
		})
	},
	"stop-container": func(ctx context.Context, r *runtime, q *request) (line, error) {
		_, err := r.StopContainer(ctx, &api.StopContainerRequest{
			Pod: q.Pod.sandbox(), Container: q.Container.container(),
		})
		return nil, err
	},
	"remove-container": func(ctx context.Context, r *runtime, q *request) (line, error) {
		return nil, r.RemoveContainer(ctx, &api.RemoveContainerRequest{
			Pod: q.Pod.sandbox(), Container: q.Container.container(),
		})
	},
}

func (p *podDocument) sandbox() *api.PodSandbox {
	linux := &api.LinuxPodSandbox{}
	if p.Netns != "" {
		linux.Namespaces = []*api.LinuxNamespace{{Type: "network", Path: p.Netns}}
	}
	return &api.PodSandbox{
		Id: p.ID, Name: p.Name, Uid: p.UID, Namespace: p.Namespace, Labels: p.Labels,
		Annotations: p.Annotations, RuntimeHandler: p.RuntimeHandler, Linux: linux, Pid: p.Pid,
	}
}

func (c *containerDocument) container() *api.Container {
	return &api.Container{
		Id: c.ID, PodSandboxId: c.Pod, Name: c.Name, Labels: c.Labels,
		Annotations: c.Annotations, Pid: c.Pid,
	}
}

func (r *runtime) setPods(q *request) {
	pods, containers := []*api.PodSandbox{}, []*api.Container{}
	for _, each := range q.Pods {
		pods = append(pods, each.sandbox())
	}
	for _, each := range q.Containers {
		containers = append(containers, each.container())
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	r.pods, r.containers = pods, containers
}

func (r *runtime) synchronize(ctx context.Context, tell nri.SyncCB) error {
	r.lock.Lock()
	pods, containers := r.pods, r.containers
	event := "synchronized"
	if !r.launched {
		event, r.launched = "launched", true
	}
	r.lock.Unlock()
	_, err := tell(ctx, pods, containers)
	r.say(with(line{"event": event, "pods": len(pods)}, err))
	return err
}

func (r *runtime) update(
	_ context.Context, updates []*api.ContainerUpdate,
) ([]*api.ContainerUpdate, error) {
	r.say(line{"event": "updated", "containers": len(updates)})
	return nil, nil
}

func (r *runtime) say(l line) {
	r.outLock.Lock()
	defer r.outLock.Unlock()
	_ = r.out.Encode(l)
}

func with(l line, err error) line {
	if err != nil {
		l["error"] = err.Error()
	}
	return l
}

func (r *runtime) do(q *request) line {
	work, known := operations[q.Op]
	if !known {
		return line{"error": fmt.Sprintf("no op %q", q.Op)}
	}
	ctx := context.Background()
	if q.Timeout > 0 {
		limited, cancel := context.WithTimeout(ctx, time.Duration(q.Timeout*float64(time.Second)))
		defer cancel()
		ctx = limited
	}
	if q.Op != "pods" && q.Op != "plugins" {
		defer r.block()()
	}
	began := time.Now()
	result, err := work(ctx, r, q)
	if err != nil {
		result = line{"error": err.Error()}
	} else if result == nil {
		result = line{}
	}
	result["ok"] = err == nil
	result["ms"] = float64(time.Since(began).Microseconds()) / 1000
	return result
}

func (r *runtime) serve() error {
	var pending sync.WaitGroup
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 256<<20)
	for lines.Scan() {
		q := &request{}
		if err := json.Unmarshal(lines.Bytes(), q); err != nil {
			return err
		}
		pending.Add(1)
		go func() {
			defer pending.Done()
			result := r.do(q)
			if q.Seq != nil {
				result["seq"] = q.Seq
			}
			r.say(result)
		}()
	}
	pending.Wait()
	return lines.Err()
}

type settings struct {
	socket, plugins, configs, required string
	request, registration              time.Duration
}

func (s *settings) parse() {
	flag.StringVar(&s.socket, "socket", "", "the socket to listen on; none: launched plugins only")
	flag.StringVar(&s.plugins, "plugin-path", "/nonexistent", "the directory of launched plugins")
	flag.StringVar(&s.configs, "config-path", "/nonexistent", "the directory of their settings")
	flag.StringVar(&s.required, "required-plugin", "",
		"refuse to create containers without this plugin")
	flag.DurationVar(&s.request, "request-timeout", nri.DefaultPluginRequestTimeout, "")
	flag.DurationVar(&s.registration, "registration-timeout",
		nri.DefaultPluginRegistrationTimeout, "")
	flag.Parse()
}

func (s *settings) options() []nri.Option {
	options := []nri.Option{
		nri.WithPluginPath(s.plugins),
		nri.WithPluginConfigPath(s.configs),
	}
	if s.socket == "" {
		options = append(options, nri.WithDisabledExternalConnections())
	} else {
		options = append(options, nri.WithSocketPath(s.socket))
	}
	return append(options, s.newer()...)
}

func run() error {
	s := &settings{}
	s.parse()
	nri.SetPluginRequestTimeout(s.request)
	nri.SetPluginRegistrationTimeout(s.registration)
	r := &runtime{out: json.NewEncoder(os.Stdout)}
	adaptation, err := nri.New("go-runtime", "1.0.0", r.synchronize, r.update, s.options()...)
	if err != nil {
		return err
	}
	r.Adaptation = adaptation
	r.watch(func(count int) { r.say(line{"event": "plugins", "count": count}) })
	if err := r.Start(); err != nil {
		return err
	}
	defer r.Stop()
	r.say(line{"event": "listening"})
	return r.serve()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "runtime:", err)
		os.Exit(1)
	}
}
