package template

import (
	"errors"
	"fmt"
	"strings"
	"text/template"

	"skep/api"
)

// Files are the task's own references by the name of their file: what the
// functions secret, config and env of a templated secret or config look up.
type Files struct {
	Secret func(target string) ([]byte, error)
	Config func(target string) ([]byte, error)
	// Env is the task's environment, "NAME=value", already expanded.
	Env []string
}

// Payload expands the content of a secret or config whose spec names a
// templating driver. Without one content is returned as it is; a driver other
// than "golang" is an error. sensitive says that a secret went into the result,
// which is then one itself. Errors do not quote the text, since it may be secret.
func (d Data) Payload(driver *api.Driver, content []byte, files Files) (expanded []byte, sensitive bool, err error) {
	if driver == nil {
		return content, false, nil
	}
	if driver.GetName() != "golang" {
		return nil, false, fmt.Errorf("templating driver %q is not known; use \"golang\" or none", driver.GetName())
	}
	x := d.expansion()
	t, err := x.parse(string(content), template.FuncMap{
		"secret": func(target string) (string, error) {
			data, err := files.Secret(target)
			sensitive = true
			return string(data), err
		},
		"config": func(target string) (string, error) {
			data, err := files.Config(target)
			return string(data), err
		},
		"env": func(name string) (string, error) {
			for _, entry := range files.Env {
				if n, value, _ := strings.Cut(entry, "="); n == name {
					return value, nil
				}
			}
			return "", fmt.Errorf("the task has no environment variable %s", name)
		},
	})
	if err != nil {
		return nil, false, errors.New("the template in it cannot be parsed (it is not shown, since it may be secret)")
	}
	expanded, err = x.run(t)
	return expanded, sensitive, err
}
