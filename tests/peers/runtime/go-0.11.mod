// NRI 0.11 as in containerd 2.2.1 and later 2.2; the rest as in ../go.mod where it can be, to be compiled once.
// Made by: GOFLAGS=-mod=mod go build -modfile=runtime/go-0.11.mod -tags before_0_12,nri_no_wasm ./runtime
module network-device-injector/tests/peers

go 1.26.0

require (
	github.com/containerd/nri v0.11.0
	github.com/containerd/ttrpc v1.2.7
)

require (
	github.com/containerd/log v0.2.0 // indirect
	github.com/knqyf263/go-plugin v0.9.0 // indirect
	github.com/opencontainers/runtime-spec v1.3.0 // indirect
	github.com/sirupsen/logrus v1.10.2 // indirect
	github.com/tetratelabs/wazero v1.10.1 // indirect
	golang.org/x/sys v0.48.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260825221802-da73d73af1c5 // indirect
	google.golang.org/grpc v1.83.2 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
	k8s.io/cri-api v0.37.0 // indirect
)
