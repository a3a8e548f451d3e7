package cli

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"skep/api"
)

// parsePort parses NAME:TARGET[/PROTOCOL][:PUBLISHED[/PROTOCOL]].
func parsePort(v string) (*api.PortConfig, error) {
	name, rest, ok := strings.Cut(v, ":")
	if !ok {
		return nil, fmt.Errorf("%q is not NAME:TARGET[/PROTOCOL][:PUBLISHED]", v)
	}
	target, published, _ := strings.Cut(rest, ":")
	published, _, _ = strings.Cut(published, "/")
	if published == "" {
		published = "0"
	}
	p, err := parsePublish(published + ":" + target)
	if err != nil {
		return nil, fmt.Errorf("port %q: %w", v, err)
	}
	p.Name = name
	return p, nil
}

// parsePublish parses [PUBLISHED:]TARGET[/PROTOCOL].
func parsePublish(v string) (*api.PortConfig, error) {
	ports, protocol, _ := strings.Cut(v, "/")
	published, target, ok := strings.Cut(ports, ":")
	if !ok {
		published, target = "0", ports
	}
	p := &api.PortConfig{PublishMode: api.PortConfig_HOST}
	switch strings.ToLower(protocol) {
	case "", "tcp":
		p.Protocol = api.PortConfig_TCP
	case "udp":
		p.Protocol = api.PortConfig_UDP
	case "sctp":
		p.Protocol = api.PortConfig_SCTP
	default:
		return nil, fmt.Errorf("no protocol %q: choose tcp, udp or sctp", protocol)
	}
	var err error
	if p.TargetPort, err = parsePortNumber(target); err != nil {
		return nil, err
	}
	p.PublishedPort, err = parsePortNumber(published)
	return p, err
}

func parsePortNumber(v string) (uint32, error) {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is not a port from 0 to 65535", v)
	}
	return uint32(n), nil
}

// parseCPUs parses a number of CPUs, "0.5", into billionths.
func parseCPUs(v string) (int64, error) {
	cpus, ok := new(big.Rat).SetString(v)
	if !ok {
		return 0, fmt.Errorf("%q is not a number of CPUs, such as 0.5", v)
	}
	nano := cpus.Mul(cpus, big.NewRat(1e9, 1))
	if !nano.IsInt() || !nano.Num().IsInt64() || nano.Sign() < 0 {
		return 0, fmt.Errorf("%q is not a number of CPUs from 0 up, in steps of a billionth", v)
	}
	return nano.Num().Int64(), nil
}

// parseBytes parses a size, "512m" or "2GiB", into bytes; units are powers of 1024.
func parseBytes(v string) (int64, error) {
	digits := strings.TrimRight(strings.ToLower(v), "bikmgtp")
	unit := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(v)[len(digits):], "b"), "i")
	shift, ok := map[string]int{"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}[unit]
	n, err := strconv.ParseFloat(digits, 64)
	size := n * float64(int64(1)<<shift)
	if !ok || err != nil || !(n >= 0 && size < math.MaxInt64) { // NaN is neither
		return 0, fmt.Errorf("%q is not a size, such as 512m or 2GiB", v)
	}
	return int64(size), nil
}

// parseGeneric parses KIND=COUNT.
func parseGeneric(v string) (*api.GenericResource, error) {
	kind, number, ok := strings.Cut(v, "=")
	count, err := strconv.ParseInt(number, 10, 64)
	if !ok || kind == "" || err != nil {
		return nil, fmt.Errorf("%q is not KIND=COUNT, such as gpu=1", v)
	}
	return &api.GenericResource{Resource: &api.GenericResource_DiscreteResourceSpec{
		DiscreteResourceSpec: &api.DiscreteGenericResource{Kind: kind, Value: count}}}, nil
}

// parseUlimit parses NAME=SOFT[:HARD].
func parseUlimit(v string) (*api.ContainerSpec_Ulimit, error) {
	name, limits, ok := strings.Cut(v, "=")
	soft, hard, both := strings.Cut(limits, ":")
	if !both {
		hard = soft
	}
	s, errSoft := strconv.ParseInt(soft, 10, 64)
	h, errHard := strconv.ParseInt(hard, 10, 64)
	if !ok || name == "" || errSoft != nil || errHard != nil {
		return nil, fmt.Errorf("%q is not NAME=SOFT[:HARD], such as nofile=1024:2048", v)
	}
	return &api.ContainerSpec_Ulimit{Name: name, Soft: s, Hard: h}, nil
}

// parseTmpfs parses TARGET[:OPTION,…] with size=, mode=, ro, rw, exec and noexec.
func parseTmpfs(v string) (*api.Mount, error) {
	target, options, _ := strings.Cut(v, ":")
	m := &api.Mount{Type: api.Mount_TMPFS, Target: target, TmpfsOptions: &api.Mount_TmpfsOptions{}}
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		var err error
		switch key {
		case "", "rw":
		case "ro":
			m.Readonly = true
		case "exec", "noexec":
			m.TmpfsOptions.Options = key
		case "size":
			m.TmpfsOptions.SizeBytes, err = parseBytes(value)
		case "mode":
			var mode uint64
			mode, err = strconv.ParseUint(value, 8, 32)
			m.TmpfsOptions.Mode = uint32(mode)
		default:
			err = fmt.Errorf("no option %q: choose size=, mode=, ro, rw, exec or noexec", key)
		}
		if err != nil {
			return nil, fmt.Errorf("tmpfs %q: %w", v, err)
		}
	}
	return m, nil
}
