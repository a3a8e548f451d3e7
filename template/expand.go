package template

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"text/template"
)

// MaxOutput is the size in bytes beyond which an expansion is refused. A few
// nested templates can describe gigabytes; the specs they stand in are limited
// to far less than this.
const MaxOutput = 2 << 20

// Expand returns text with its templates replaced.
func (d Data) Expand(text string) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	t, err := parse(text, nil)
	if err != nil {
		return "", fmt.Errorf("expand %q: %w", excerpt(text), err)
	}
	out, err := d.run(t)
	if err != nil {
		return "", fmt.Errorf("expand %q: %w", excerpt(text), err)
	}
	return string(out), nil
}

func parse(text string, functions template.FuncMap) (*template.Template, error) {
	return template.New("").Option("missingkey=error").
		Funcs(template.FuncMap{"join": join}).Funcs(functions).Parse(text)
}

func (d Data) run(t *template.Template) ([]byte, error) {
	var out limited
	if err := t.Execute(&out, d); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// join puts separator between the other arguments.
func join(separator string, parts ...string) string { return strings.Join(parts, separator) }

// excerpt keeps an error readable when the template is a whole file.
func excerpt(text string) string {
	const longest = 80
	if len(text) <= longest {
		return text
	}
	return text[:longest] + "…"
}

// limited is a buffer that refuses to grow beyond MaxOutput.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > MaxOutput {
		return 0, errTooLarge
	}
	return l.Buffer.Write(p)
}

var errTooLarge = errors.New("the result is larger than 2 MiB; make the template produce less")
