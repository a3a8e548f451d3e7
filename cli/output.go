package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// object is what every listed thing has.
type object interface {
	proto.Message
	GetId() string
}

// column is one column of a table.
type column[T any] struct {
	title string
	value func(T) string
}

// list prints items as IDs, as one JSON array, or as a table.
func list[T object](a *app, quiet bool, items []T, columns []column[T]) error {
	switch {
	case quiet:
		for _, item := range items {
			fmt.Fprintln(a.Out, item.GetId())
		}
		return nil
	case a.format == "json":
		return writeJSONArray(a.Out, items)
	}
	return rows(a, items, columns)
}

// rows prints items as a table.
func rows[T any](a *app, items []T, columns []column[T]) error {
	out := &trimmer{w: a.Out}
	w := table(out)
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = c.title
	}
	fmt.Fprintln(w, strings.Join(titles, "\t"))
	for _, item := range items {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = oneLine(c.value(item))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// oneLine keeps a cell in its row and column, whatever is in it.
func oneLine(cell string) string { return strings.Join(strings.Fields(cell), " ") }

// inspect prints one object as JSON, or as lines of "name: value".
func inspect(a *app, m proto.Message, lines func(*summary)) error {
	if a.format == "json" {
		data, err := marshalJSON(m)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.Out, "%s\n", data)
		return err
	}
	s := &summary{w: table(a.Out)}
	lines(s)
	return s.w.Flush()
}

// summary writes lines of a name and a value; empty values leave no line.
type summary struct{ w *tabwriter.Writer }

func (s *summary) line(name, value string) {
	if value != "" {
		fmt.Fprintf(s.w, "%s:\t%s\n", name, value)
	}
}

func (s *summary) linef(name, format string, args ...any) {
	s.line(name, fmt.Sprintf(format, args...))
}

func (s *summary) lines(name string, values []string) {
	for _, value := range values {
		s.line(name, value)
	}
}

func (s *summary) labels(name string, labels map[string]string) {
	for _, key := range sortedKeys(labels) {
		s.line(name, key+"="+labels[key])
	}
}

// trimmer takes the spaces off the ends of lines, which a table pads its last
// cells with. It is written to in whole lines or parts of one, and flushed by the
// line's end.
type trimmer struct {
	w      io.Writer
	spaces int
}

func (t *trimmer) Write(p []byte) (int, error) {
	var out []byte
	for _, c := range p {
		switch c {
		case ' ':
			t.spaces++
			continue
		case '\n':
		default:
			out = append(out, strings.Repeat(" ", t.spaces)...)
		}
		t.spaces = 0
		out = append(out, c)
	}
	if _, err := t.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

func table(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 4, 2, ' ', 0) }

// marshalJSON writes m with proto field names. protojson varies its white space
// on purpose, so it is laid out again.
func marshalJSON(m proto.Message) ([]byte, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write %s as JSON: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func writeJSONArray[T proto.Message](w io.Writer, items []T) error {
	all := make([]json.RawMessage, len(items))
	for i, item := range items {
		data, err := marshalJSON(item)
		if err != nil {
			return err
		}
		all[i] = data
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(all)
}

// age says how long ago t was, in one unit: "12 seconds ago".
func age(now time.Time, t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	d := max(now.Sub(t.AsTime()), 0)
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if n := int(d / unit.size); n == 1 {
			return "1 " + unit.name + " ago"
		} else if n > 1 {
			return fmt.Sprintf("%d %ss ago", n, unit.name)
		}
	}
	return "just now"
}

// bytesText says a size as people do: "512MiB".
func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") + units[i]
}

// title turns an enum's name into a word: "RUNNING" into "Running".
func title(enum fmt.Stringer) string {
	s := strings.ReplaceAll(enum.String(), "_", " ")
	if s == "" {
		return ""
	}
	return s[:1] + strings.ToLower(s[1:])
}
