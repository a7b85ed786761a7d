// An NRI plugin that lends one link as the Go sample does: down, alias, rename, move, rename, up,
// each a netlink call of its own, and the same back.  For timings beside ours.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

type plugin struct{ link, inPod string }

func (p *plugin) RunPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.withPod(pod, func(home, there netns.NsHandle) error {
		return p.carry(home, there, p.link, p.inPod, p.link)
	})
}

func (p *plugin) StopPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.withPod(pod, func(home, there netns.NsHandle) error {
		return p.carry(there, home, p.inPod, p.link, "")
	})
}

// carry moves a link from one namespace to another, under a temporary name in between.
func (p *plugin) carry(from, to netns.NsHandle, name, newName, alias string) error {
	here, err := netlink.NewHandleAt(from)
	if err != nil {
		return err
	}
	defer here.Close()
	there, err := netlink.NewHandleAt(to)
	if err != nil {
		return err
	}
	defer there.Close()
	link, err := here.LinkByName(name)
	if err != nil {
		return err
	}
	temporary := fmt.Sprintf("dev%d", link.Attrs().Index)
	for _, step := range []func() error{
		func() error { return here.LinkSetDown(link) },
		func() error { return here.LinkSetAlias(link, alias) },
		func() error { return here.LinkSetName(link, temporary) },
		func() error { return here.LinkSetNsFd(link, int(to)) },
		func() error { link, err = there.LinkByName(temporary); return err },
		func() error { return there.LinkSetName(link, newName) },
		func() error { return there.LinkSetUp(link) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (p *plugin) withPod(pod *api.PodSandbox, do func(home, there netns.NsHandle) error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, each := range pod.GetLinux().GetNamespaces() {
		if each.GetType() != "network" {
			continue
		}
		home, err := netns.Get()
		if err != nil {
			return err
		}
		defer home.Close()
		there, err := netns.GetFromPath(each.GetPath())
		if err != nil {
			return err
		}
		defer there.Close()
		return do(home, there)
	}
	return nil
}

func main() {
	socket := flag.String("socket", "", "NRI's socket")
	index := flag.String("idx", "20", "place among the plugins")
	p := &plugin{}
	flag.StringVar(&p.link, "link", "", "the host's link")
	flag.StringVar(&p.inPod, "as", "", "its name in the pod")
	flag.Parse()
	made, err := stub.New(p, stub.WithPluginName("go-way"), stub.WithPluginIdx(*index), stub.WithSocketPath(*socket))
	if err == nil {
		err = made.Run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
