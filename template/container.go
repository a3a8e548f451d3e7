package template

import (
	"fmt"
	"maps"
	"slices"

	"skep/api"
	"skep/model"
)

// Container returns spec with its templates expanded.
func (d Data) Container(spec *api.ContainerSpec) (*api.ContainerSpec, error) {
	x := d.expansion()
	out := model.Shallow(spec)
	var err error
	if out.Env, err = x.environment(spec.GetEnv()); err != nil {
		return nil, err
	}
	if out.Hostname, err = x.expand(spec.GetHostname()); err != nil {
		return nil, fmt.Errorf("hostname: %w", err)
	}
	out.Mounts = slices.Clone(spec.GetMounts())
	for i, mount := range spec.GetMounts() {
		if out.Mounts[i], err = x.mount(mount); err != nil {
			return nil, fmt.Errorf("mount %d: %w", i+1, err)
		}
	}
	return out, nil
}

func (x *expansion) mount(mount *api.Mount) (*api.Mount, error) {
	out := model.Shallow(mount)
	var err error
	if out.Source, err = x.expand(mount.GetSource()); err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	if out.Target, err = x.expand(mount.GetTarget()); err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	if mount.GetVolumeOptions() == nil {
		return out, nil
	}
	options := model.Shallow(mount.GetVolumeOptions())
	if options.Labels, err = x.values("label", options.GetLabels()); err != nil {
		return nil, fmt.Errorf("volume: %w", err)
	}
	if driver := options.GetDriverConfig(); driver != nil {
		options.DriverConfig = model.Shallow(driver)
		if options.DriverConfig.Options, err = x.values("option", driver.GetOptions()); err != nil {
			return nil, fmt.Errorf("volume driver: %w", err)
		}
	}
	out.VolumeOptions = options
	return out, nil
}

// values expands the values of a map, in the order of its keys so that the
// first error is always the same.
func (x *expansion) values(what string, texts map[string]string) (map[string]string, error) {
	out := maps.Clone(texts)
	for _, key := range slices.Sorted(maps.Keys(texts)) {
		expanded, err := x.expand(texts[key])
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", what, key, err)
		}
		out[key] = expanded
	}
	return out, nil
}
