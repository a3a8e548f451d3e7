package template

import (
	"errors"
	"fmt"
	"strings"
	"text/template"
	"text/template/parse"
)

const (
	// maxWork bounds the bytes of template that one expansion goes over, each loop
	// as often as it runs, together with those of text that functions make. It is
	// far more than any spec needs, and done within a second.
	maxWork = 64 << 20
	// perNode is what going over a node, or a list of them, costs beside its text.
	perNode = 256
	// growth is how much longer than its argument a verb or an escape makes text.
	growth = 10
	// maxWidth is the largest width that package fmt honours.
	maxWidth = 1_000_000
)

var errTooMuchWork = errors.New("it takes too long to expand; make the template loop less")

// charge takes n off what the expansion may still cost.
func (x *expansion) charge(n int) error {
	if n < 0 || n > x.left {
		return errTooMuchWork
	}
	x.left -= n
	return nil
}

// meter makes every list of nodes in t, and in the templates that it defines, pay
// for itself whenever it is gone over: that is what loops and recursion repeat.
func (x *expansion) meter(t *template.Template) error {
	for _, defined := range t.Templates() {
		if err := meterList(defined.Root); err != nil {
			return err
		}
	}
	return nil
}

func meterList(list *parse.ListNode) error {
	if list == nil {
		return nil
	}
	cost := perNode
	for _, n := range list.Nodes {
		own, err := meterNode(n)
		if err != nil {
			return err
		}
		cost += perNode + own
	}
	payment, err := template.New("").Funcs(template.FuncMap{"pay": func(int) string { return "" }}).Parse(fmt.Sprintf("{{pay %d}}", cost))
	if err != nil {
		return err
	}
	list.Nodes = append(payment.Root.Nodes[:1:1], list.Nodes...)
	return nil
}

// meterNode returns what a node costs, without the lists in it, which it meters.
func meterNode(n parse.Node) (cost int, err error) {
	var b *parse.BranchNode
	switch n := n.(type) {
	case *parse.IfNode:
		b = &n.BranchNode
	case *parse.RangeNode:
		b = &n.BranchNode
	case *parse.WithNode:
		b = &n.BranchNode
	default:
		return len(n.String()), nil
	}
	return len(b.Pipe.String()), errors.Join(meterList(b.List), meterList(b.ElseList))
}

// functions are join, and those of text/template that make text, each of which
// pays for the most that it may make before it does.
func (x *expansion) functions() template.FuncMap {
	return template.FuncMap{
		"pay": func(n int) (string, error) { return "", x.charge(n) },
		// join puts separator between the other arguments.
		"join": func(separator string, parts ...string) (string, error) {
			n := len(separator) * len(parts)
			for _, part := range parts {
				n += len(part)
			}
			return made(x.charge(n), func() string { return strings.Join(parts, separator) })
		},
		"print":    x.paid(func(args []any) string { return fmt.Sprint(args...) }),
		"println":  x.paid(func(args []any) string { return fmt.Sprintln(args...) }),
		"html":     x.paid(func(args []any) string { return template.HTMLEscaper(args...) }),
		"js":       x.paid(func(args []any) string { return template.JSEscaper(args...) }),
		"urlquery": x.paid(func(args []any) string { return template.URLQueryEscaper(args...) }),
		"printf": func(format string, args ...any) (string, error) {
			// With [n] each verb may take the longest.
			n := len(format) + widths(format) + strings.Count(format, "%")*growth*longest(args)
			return made(x.charge(n), func() string { return fmt.Sprintf(format, args...) })
		},
	}
}

// paid makes a function whose arguments each come out once.
func (x *expansion) paid(f func(args []any) string) func(args ...any) (string, error) {
	return func(args ...any) (string, error) {
		return made(x.charge(growth*longest(args)*len(args)), func() string { return f(args) })
	}
}

func made(err error, f func() string) (string, error) {
	if err != nil {
		return "", err
	}
	return f(), nil
}

// longest returns the length of the longest of args as text.
func longest(args []any) int {
	n := 0
	for _, a := range args {
		if text, ok := a.(string); ok {
			n = max(n, len(text))
		} else {
			n = max(n, len(fmt.Sprint(a)))
		}
	}
	return n
}

// widths returns the sum of the numbers in a format, at least that of all widths
// and precisions that it asks for.
func widths(format string) int {
	sum, number := 0, 0
	for i := range len(format) {
		switch c := format[i]; {
		case c >= '0' && c <= '9':
			number = min(number*10+int(c-'0'), maxWidth)
			continue
		case c == '*': // the width is an argument
			number = maxWidth
		}
		sum, number = sum+number, 0
	}
	return sum + number
}
