package template

import (
	"fmt"
	"slices"
	"strings"

	"skep/api/skep"
	"skep/model"
)

// Process returns spec with its templates expanded.
func (d Data) Process(spec *skep.ProcessSpec) (*skep.ProcessSpec, error) {
	x := d.expansion()
	out := model.Shallow(spec)
	var err error
	if out.Args, err = x.list("argument", spec.GetArgs()); err != nil {
		return nil, err
	}
	if out.Env, err = x.environment(spec.GetEnv()); err != nil {
		return nil, err
	}
	if out.Directory, err = x.expand(spec.GetDirectory()); err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	return out, nil
}

func (x *expansion) list(what string, texts []string) ([]string, error) {
	out := slices.Clone(texts)
	for i, text := range texts {
		expanded, err := x.expand(text)
		if err != nil {
			return nil, fmt.Errorf("%s %d: %w", what, i+1, err)
		}
		out[i] = expanded
	}
	return out, nil
}

// environment expands values only: a name is what the program looks for.
func (x *expansion) environment(env []string) ([]string, error) {
	out := slices.Clone(env)
	for i, entry := range env {
		name, value, found := strings.Cut(entry, "=")
		if !found {
			continue
		}
		expanded, err := x.expand(value)
		if err != nil {
			return nil, fmt.Errorf("environment variable %s: %w", name, err)
		}
		out[i] = name + "=" + expanded
	}
	return out, nil
}
