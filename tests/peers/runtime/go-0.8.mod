// NRI 0.8 as in containerd 1.7.26 to 2.1; the rest as in ../go.mod where it can be, to be compiled once.
// Made by: GOFLAGS=-mod=mod go build -modfile=runtime/go-0.8.mod -tags before_0_12,nri_no_wasm ./runtime
module network-device-injector/tests/peers

go 1.26.0

require (
	github.com/containerd/nri v0.8.0
	github.com/containerd/ttrpc v1.2.7
)

require (
	github.com/containerd/log v0.2.0 // indirect
	github.com/opencontainers/runtime-spec v1.2.1 // indirect
	github.com/sirupsen/logrus v1.10.2 // indirect
	golang.org/x/net v0.58.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
	golang.org/x/text v0.41.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260825221802-da73d73af1c5 // indirect
	google.golang.org/grpc v1.83.2 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
	k8s.io/cri-api v0.37.0 // indirect
)
