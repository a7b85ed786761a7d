"""Making the bundle (cni_netdev.bundle), for `make dist`."""
