// A CRI client for tests: `cri SOCKET VERB` takes one JSON document on stdin and answers with one
// on stdout; it exits with 1 on {"error": message, "code": name of the gRPC code}.
// `cri SOCKET serve` takes documents with a "verb", one a line, works on all of them at once, and
// answers each on a line that echoes its "seq". "ms" is the wall time of the RPC alone.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type podConfig struct {
	Name           string            `json:"name"`
	UID            string            `json:"uid"`
	Namespace      string            `json:"namespace"`
	Attempt        uint32            `json:"attempt"`
	Annotations    map[string]string `json:"annotations"`
	Labels         map[string]string `json:"labels"`
	HostNetwork    bool              `json:"hostNetwork"`
	HostPID        bool              `json:"hostPID"`
	LogDirectory   string            `json:"logDirectory"`
	CgroupParent   string            `json:"cgroupParent"`
	RuntimeHandler string            `json:"runtimeHandler"`
}

// What a Kubernetes container says of itself, in the kubelet's words.
type security struct {
	Capabilities struct {
		Add  []string `json:"add"`
		Drop []string `json:"drop"`
	} `json:"capabilities"`
	ReadOnlyRootFilesystem bool `json:"readOnlyRootFilesystem"`
	Privileged             bool `json:"privileged"`
}

type mount struct {
	HostPath    string `json:"hostPath"`
	Path        string `json:"mountPath"`
	ReadOnly    bool   `json:"readOnly"`
	Propagation string `json:"mountPropagation"` // None, HostToContainer or Bidirectional
}

type request struct {
	podConfig
	Seq       json.RawMessage `json:"seq"`
	Verb      string          `json:"verb"`
	ID        string          `json:"id"`        // of a pod or a container
	Pod       string          `json:"pod"`       // create: the sandbox's id
	Config    podConfig       `json:"config"`    // create: what run-pod was given
	Image     string          `json:"image"`     // create, image
	Command   []string        `json:"command"`   // create, exec
	Env       []string        `json:"env"`       // create: KEY=VALUE
	Mounts    []mount         `json:"mounts"`    // create
	Security  security        `json:"security"`  // create
	LogPath   string          `json:"logPath"`   // create: below the pod's logDirectory
	Container string          `json:"container"` // exec
	Timeout   float64         `json:"timeout"`   // seconds that the RPC may take
}

type answer map[string]any

type client struct {
	runtime cri.RuntimeServiceClient
	images  cri.ImageServiceClient
}

type verb func(context.Context, *client, *request) (answer, error)

var verbs = map[string]verb{
	"version":          version,
	"status":           runtimeStatus,
	"image":            image,
	"run-pod":          runPod,
	"stop-pod":         stopPod,
	"remove-pod":       removePod,
	"inspect-pod":      inspectPod,
	"pods":             pods,
	"create":           create,
	"start":            start,
	"exec":             execSync,
	"stop-container":   stopContainer,
	"remove-container": removeContainer,
	"containers":       containers,
}

func version(ctx context.Context, c *client, _ *request) (answer, error) {
	got, err := c.runtime.Version(ctx, &cri.VersionRequest{}, grpc.WaitForReady(true))
	return answer{"name": got.GetRuntimeName(), "version": got.GetRuntimeVersion()}, err
}

func runtimeStatus(ctx context.Context, c *client, _ *request) (answer, error) {
	got, err := c.runtime.Status(ctx, &cri.StatusRequest{Verbose: true})
	conditions := answer{}
	for _, each := range got.GetStatus().GetConditions() {
		conditions[each.Type] = each.Status
	}
	return answer{"conditions": conditions, "info": documents(got.GetInfo())}, err
}

func image(ctx context.Context, c *client, r *request) (answer, error) {
	got, err := c.images.ImageStatus(ctx, &cri.ImageStatusRequest{
		Image: &cri.ImageSpec{Image: r.Image},
	})
	return answer{"id": got.GetImage().GetId()}, err
}

func runPod(ctx context.Context, c *client, r *request) (answer, error) {
	got, err := c.runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{
		Config: r.podConfig.sandbox(), RuntimeHandler: r.RuntimeHandler,
	})
	return answer{"id": got.GetPodSandboxId()}, err
}

func stopPod(ctx context.Context, c *client, r *request) (answer, error) {
	_, err := c.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: r.ID})
	return answer{}, err
}

func removePod(ctx context.Context, c *client, r *request) (answer, error) {
	_, err := c.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: r.ID})
	return answer{}, err
}

func inspectPod(ctx context.Context, c *client, r *request) (answer, error) {
	got, err := c.runtime.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{
		PodSandboxId: r.ID, Verbose: true,
	})
	state := got.GetStatus()
	return answer{
		"state": state.GetState().String(),
		"ip":    state.GetNetwork().GetIp(),
		"info":  documents(got.GetInfo()),
	}, err
}

func pods(ctx context.Context, c *client, _ *request) (answer, error) {
	got, err := c.runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	list := []answer{}
	for _, each := range got.GetItems() {
		list = append(list, answer{
			"id": each.Id, "name": each.Metadata.Name, "uid": each.Metadata.Uid,
			"namespace": each.Metadata.Namespace, "state": each.State.String(),
		})
	}
	return answer{"pods": list}, err
}

func create(ctx context.Context, c *client, r *request) (answer, error) {
	got, err := c.runtime.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId:  r.Pod,
		SandboxConfig: r.Config.sandbox(),
		Config: &cri.ContainerConfig{
			Metadata:    &cri.ContainerMetadata{Name: r.Name, Attempt: r.Attempt},
			Image:       &cri.ImageSpec{Image: r.Image},
			Command:     r.Command,
			Annotations: r.Annotations,
			Labels:      r.Labels,
			Envs:        r.envs(),
			Mounts:      r.mounts(),
			LogPath:     r.LogPath,
			Linux:       &cri.LinuxContainerConfig{SecurityContext: r.security()},
		},
	})
	return answer{"id": got.GetContainerId()}, err
}

// What the kubelet hides from a container without procMount: Unmasked.
var (
	masked = []string{"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
		"/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"}
	readOnly = []string{
		"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

func (r *request) security() *cri.LinuxContainerSecurityContext {
	context := &cri.LinuxContainerSecurityContext{
		NamespaceOptions: r.Config.namespaces(),
		Capabilities: &cri.Capability{
			AddCapabilities:  r.Security.Capabilities.Add,
			DropCapabilities: r.Security.Capabilities.Drop,
		},
		ReadonlyRootfs: r.Security.ReadOnlyRootFilesystem,
		Privileged:     r.Security.Privileged,
	}
	if !context.Privileged {
		context.MaskedPaths, context.ReadonlyPaths = masked, readOnly
	}
	return context
}

func (r *request) envs() []*cri.KeyValue {
	envs := []*cri.KeyValue{}
	for _, each := range r.Env {
		key, value, _ := strings.Cut(each, "=")
		envs = append(envs, &cri.KeyValue{Key: key, Value: []byte(value)})
	}
	return envs
}

func (r *request) mounts() []*cri.Mount {
	propagations := map[string]cri.MountPropagation{
		"HostToContainer": cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER,
		"Bidirectional":   cri.MountPropagation_PROPAGATION_BIDIRECTIONAL,
	}
	mounts := []*cri.Mount{}
	for _, each := range r.Mounts {
		mounts = append(mounts, &cri.Mount{
			HostPath: each.HostPath, ContainerPath: each.Path, Readonly: each.ReadOnly,
			Propagation: propagations[each.Propagation],
		})
	}
	return mounts
}

func start(ctx context.Context, c *client, r *request) (answer, error) {
	_, err := c.runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: r.ID})
	return answer{}, err
}

func execSync(ctx context.Context, c *client, r *request) (answer, error) {
	got, err := c.runtime.ExecSync(ctx, &cri.ExecSyncRequest{
		ContainerId: r.Container, Cmd: r.Command,
	})
	return answer{
		"stdout":   string(got.GetStdout()),
		"stderr":   string(got.GetStderr()),
		"exitCode": got.GetExitCode(),
	}, err
}

func stopContainer(ctx context.Context, c *client, r *request) (answer, error) {
	_, err := c.runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: r.ID})
	return answer{}, err
}

func removeContainer(ctx context.Context, c *client, r *request) (answer, error) {
	_, err := c.runtime.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: r.ID})
	return answer{}, err
}

func containers(ctx context.Context, c *client, _ *request) (answer, error) {
	got, err := c.runtime.ListContainers(ctx, &cri.ListContainersRequest{})
	list := []answer{}
	for _, each := range got.GetContainers() {
		list = append(list, answer{
			"id": each.Id, "name": each.Metadata.Name, "pod": each.PodSandboxId,
			"state": each.State.String(),
		})
	}
	return answer{"containers": list}, err
}

func (p *podConfig) namespaces() *cri.NamespaceOption {
	options := &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}
	if p.HostNetwork {
		options.Network = cri.NamespaceMode_NODE
	}
	if p.HostPID {
		options.Pid = cri.NamespaceMode_NODE
	}
	return options
}

func (p *podConfig) sandbox() *cri.PodSandboxConfig {
	return &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{
			Name: p.Name, Uid: p.UID, Namespace: p.Namespace, Attempt: p.Attempt,
		},
		Annotations:  p.Annotations,
		Labels:       p.Labels,
		LogDirectory: p.LogDirectory,
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent:    p.CgroupParent,
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: p.namespaces()},
		},
	}
}

// documents decodes the JSON texts that CRI's verbose answers consist of; others stay texts.
func documents(info map[string]string) answer {
	decoded := answer{}
	for key, text := range info {
		if json.Valid([]byte(text)) {
			decoded[key] = json.RawMessage(text)
		} else {
			decoded[key] = text
		}
	}
	return decoded
}

func (c *client) do(r *request) answer {
	work, known := verbs[r.Verb]
	if !known {
		return answer{"error": fmt.Sprintf("no verb %q", r.Verb), "code": "Usage"}
	}
	limit := 2 * time.Minute
	if r.Timeout > 0 {
		limit = time.Duration(r.Timeout * float64(time.Second))
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	began := time.Now()
	result, err := work(ctx, c, r)
	if err != nil {
		result = answer{"error": status.Convert(err).Message(), "code": status.Code(err).String()}
	}
	result["ms"] = float64(time.Since(began).Microseconds()) / 1000
	return result
}

func dial(socket string) (*client, error) {
	connection, err := grpc.NewClient("unix://"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{
			BaseDelay: 10 * time.Millisecond, Multiplier: 1, MaxDelay: 10 * time.Millisecond,
		}}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return nil, err
	}
	return &client{cri.NewRuntimeServiceClient(connection), cri.NewImageServiceClient(connection)}, nil
}

func once(c *client, name string) error {
	r := &request{}
	if err := json.NewDecoder(os.Stdin).Decode(r); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	r.Verb = name
	result := c.do(r)
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		return err
	}
	if _, failed := result["error"]; failed {
		os.Exit(1)
	}
	return nil
}

func serve(c *client) error {
	var pending sync.WaitGroup
	var lock sync.Mutex
	out := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		r := &request{}
		if err := json.Unmarshal(lines.Bytes(), r); err != nil {
			return err
		}
		pending.Add(1)
		go func() {
			defer pending.Done()
			result := c.do(r)
			if r.Seq != nil {
				result["seq"] = r.Seq
			}
			lock.Lock()
			defer lock.Unlock()
			_ = out.Encode(result)
		}()
	}
	pending.Wait()
	return lines.Err()
}

func run() error {
	if len(os.Args) != 3 {
		return errors.New("usage: cri SOCKET VERB")
	}
	c, err := dial(os.Args[1])
	if err != nil {
		return err
	}
	if os.Args[2] == "serve" {
		return serve(c)
	}
	return once(c, os.Args[2])
}

func main() {
	if err := run(); err != nil {
		_ = json.NewEncoder(os.Stdout).Encode(
			answer{"error": err.Error(), "code": codes.Unknown.String()})
		os.Exit(1)
	}
}
