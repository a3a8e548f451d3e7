package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"skep/api"
	"skep/api/skep"
)

const readableByOwner, readableByAll = 0o400, 0o444

// fileRef is one secret or config that a task reads as a file.
type fileRef struct{ id, name, target string }

// resolveFiles turns NAME[:FILE] into references to objects that exist.
func resolveFiles[T object](ctx context.Context, f finder[T], values []string) ([]fileRef, error) {
	return parseAll(values, func(v string) (fileRef, error) {
		name, target, _ := strings.Cut(v, ":")
		found, err := f.find(ctx, name)
		if err != nil {
			return fileRef{}, err
		}
		return fileRef{id: found.GetId(), name: f.name(found), target: cmp.Or(target, f.name(found))}, nil
	})
}

func (d *draft) setSecrets(ctx context.Context, values []string, add bool) error {
	refs, err := resolveFiles(ctx, d.app.secrets(d.control), values)
	if err != nil {
		return err
	}
	return onEither(
		func(p *skep.ProcessSpec, refs []fileRef) { p.Secrets = appendTo(p.Secrets, add, processFiles(refs)) },
		func(c *api.ContainerSpec, refs []fileRef) {
			var made []*api.SecretReference
			for _, r := range refs {
				made = append(made, &api.SecretReference{SecretId: r.id, SecretName: r.name, Target: &api.SecretReference_File{File: containerFile(r)}})
			}
			c.Secrets = appendTo(c.Secrets, add, made)
		})(d, refs)
}

func (d *draft) setConfigs(ctx context.Context, values []string, add bool) error {
	refs, err := resolveFiles(ctx, d.app.configs(d.control), values)
	if err != nil {
		return err
	}
	return onEither(
		func(p *skep.ProcessSpec, refs []fileRef) { p.Configs = appendTo(p.Configs, add, processFiles(refs)) },
		func(c *api.ContainerSpec, refs []fileRef) {
			var made []*api.ConfigReference
			for _, r := range refs {
				made = append(made, &api.ConfigReference{ConfigId: r.id, ConfigName: r.name, Target: &api.ConfigReference_File{File: containerFile(r)}})
			}
			c.Configs = appendTo(c.Configs, add, made)
		})(d, refs)
}

func appendTo[T any](have []T, add bool, made []T) []T {
	if add {
		return append(have, made...)
	}
	return made
}

func processFiles(refs []fileRef) []*skep.FileReference {
	var out []*skep.FileReference
	for _, r := range refs {
		out = append(out, &skep.FileReference{Id: r.id, Name: r.name, Target: r.target, Mode: readableByOwner})
	}
	return out
}

func containerFile(r fileRef) *api.FileTarget {
	return &api.FileTarget{Name: r.target, Uid: "0", Gid: "0", Mode: readableByAll}
}

func (d *draft) dropSecrets(names []string) error {
	return onEither(
		func(p *skep.ProcessSpec, v []string) { p.Secrets = dropFiles(p.Secrets, v) },
		func(c *api.ContainerSpec, v []string) {
			c.Secrets = slices.DeleteFunc(c.Secrets, func(r *api.SecretReference) bool {
				return slices.Contains(v, r.SecretName) || slices.Contains(v, r.SecretId)
			})
		})(d, names)
}

func (d *draft) dropConfigs(names []string) error {
	return onEither(
		func(p *skep.ProcessSpec, v []string) { p.Configs = dropFiles(p.Configs, v) },
		func(c *api.ContainerSpec, v []string) {
			c.Configs = slices.DeleteFunc(c.Configs, func(r *api.ConfigReference) bool {
				return slices.Contains(v, r.ConfigName) || slices.Contains(v, r.ConfigId)
			})
		})(d, names)
}

func dropFiles(files []*skep.FileReference, names []string) []*skep.FileReference {
	return slices.DeleteFunc(files, func(r *skep.FileReference) bool {
		return slices.Contains(names, r.Name) || slices.Contains(names, r.Id)
	})
}

// parsePair parses SOURCE:TARGET into a mount of kind.
func parsePair(kind api.Mount_Type) func(string) (*api.Mount, error) {
	return func(v string) (*api.Mount, error) {
		source, target, ok := strings.Cut(v, ":")
		if !ok || source == "" || target == "" {
			return nil, fmt.Errorf("%q is not SOURCE:TARGET", v)
		}
		return &api.Mount{Type: kind, Source: source, Target: target}, nil
	}
}
