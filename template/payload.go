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
// which is then one itself. Errors quote neither the text nor a value, since they
// may be secret.
func (d Data) Payload(driver *api.Driver, content []byte, files Files) (expanded []byte, sensitive bool, err error) {
	if driver == nil {
		return content, false, nil
	}
	if driver.GetName() != "golang" {
		return nil, false, fmt.Errorf("templating driver %q is not known; use \"golang\" or none", driver.GetName())
	}
	// What the functions refuse is said; an error of text/template quotes values.
	var refused error
	refuse := func(text []byte, err error) (string, error) {
		if err != nil {
			refused = err
		}
		return string(text), err
	}
	x := d.expansion()
	t, err := x.parse(string(content), template.FuncMap{
		"secret": func(target string) (string, error) {
			data, err := files.Secret(target)
			sensitive = sensitive || err == nil
			return refuse(data, err)
		},
		"config": func(target string) (string, error) { return refuse(files.Config(target)) },
		"env":    func(name string) (string, error) { return refuse(variable(files.Env, name)) },
	})
	if err != nil {
		return nil, false, errors.New("the template in it cannot be parsed (it is not shown, since it may be secret)")
	}
	expanded, err = x.run(t)
	switch {
	case err == nil:
		return expanded, sensitive, nil
	case errors.Is(err, errTooMuchWork):
		return nil, false, errTooMuchWork
	case errors.Is(err, errTooLarge):
		return nil, false, errTooLarge
	case refused != nil && !sensitive:
		return nil, false, refused
	}
	return nil, false, errors.New("the template in it cannot be expanded (why is not shown, since that may be secret)")
}

// variable returns the value of a variable of an environment.
func variable(env []string, name string) ([]byte, error) {
	for _, entry := range env {
		if n, value, _ := strings.Cut(entry, "="); n == name {
			return []byte(value), nil
		}
	}
	return nil, fmt.Errorf("the task has no environment variable %s", name)
}
