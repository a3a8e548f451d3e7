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
func (d Data) Expand(text string) (string, error) { return d.expansion().expand(text) }

// expansion is the expansion of one spec, or of one payload. Its templates share
// what they may cost.
type expansion struct {
	data Data
	left int // bytes that may still be read or made, see charge
}

func (d Data) expansion() *expansion { return &expansion{data: d, left: maxWork} }

func (x *expansion) expand(text string) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	t, err := x.parse(text, nil)
	if err != nil {
		return "", fmt.Errorf("expand %q: %w", excerpt(text), err)
	}
	out, err := x.run(t)
	if err != nil {
		return "", fmt.Errorf("expand %q: %w", excerpt(text), err)
	}
	return string(out), nil
}

func (x *expansion) parse(text string, functions template.FuncMap) (*template.Template, error) {
	t, err := template.New("").Option("missingkey=error").Funcs(x.functions()).Funcs(functions).Parse(text)
	if err != nil {
		return nil, err
	}
	return t, x.meter(t)
}

func (x *expansion) run(t *template.Template) ([]byte, error) {
	var out limited
	if err := t.Execute(&out, x.data); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

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
