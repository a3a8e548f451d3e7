package cli

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
)

func TestATableKeepsItsColumnsWhenCellsAreEmpty(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	a := &app{Streams: Streams{Out: &out}, format: "table"}
	columns := []column[*api.Config]{
		{"ID", (*api.Config).GetId},
		{"NAME", func(c *api.Config) string { return c.GetSpec().GetAnnotations().GetName() }},
		{"NOTE", func(c *api.Config) string { return string(c.GetSpec().GetData()) }},
	}
	items := []*api.Config{
		{Id: "a", Spec: &api.ConfigSpec{Annotations: &api.Annotations{Name: "a long name"}}},
		{Id: "b", Spec: &api.ConfigSpec{Data: []byte("two words")}},
	}
	if err := list(a, false, items, columns); err != nil {
		t.Fatal(err)
	}
	want := `ID  NAME         NOTE
a   a long name
b                two words
`
	if out.String() != want {
		t.Errorf("got\n%q, want\n%q", out.String(), want)
	}
}

func TestAListIsIDsOrOneJSONArray(t *testing.T) {
	t.Parallel()
	items := []*api.Config{{Id: "a", Spec: &api.ConfigSpec{Annotations: &api.Annotations{Name: "<x>"}}}, {Id: "b"}}
	for _, c := range []struct {
		format string
		quiet  bool
		items  []*api.Config
		want   string
	}{
		{"table", true, items, "a\nb\n"},
		{"json", true, items, "a\nb\n"},
		{"json", false, items, "[\n  {\n    \"id\": \"a\",\n    \"spec\": {\n      \"annotations\": {\n        \"name\": \"<x>\"\n      }\n    }\n  },\n  {\n    \"id\": \"b\"\n  }\n]\n"},
		{"json", false, nil, "[]\n"},
	} {
		var out strings.Builder
		a := &app{Streams: Streams{Out: &out}, format: c.format}
		if err := list(a, c.quiet, c.items, nil); err != nil {
			t.Fatal(err)
		}
		if out.String() != c.want {
			t.Errorf("-o %s, quiet %v: got %q, want %q", c.format, c.quiet, out.String(), c.want)
		}
	}
}

func TestAnAgeIsSaidInOneUnit(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	for _, c := range []struct {
		ago  time.Duration
		want string
	}{
		{-time.Minute, "just now"}, {0, "just now"}, {time.Second, "1 second ago"}, {59 * time.Second, "59 seconds ago"},
		{time.Minute, "1 minute ago"}, {90 * time.Minute, "1 hour ago"}, {49 * time.Hour, "2 days ago"},
	} {
		if got := age(now, timestamppb.New(now.Add(-c.ago))); got != c.want {
			t.Errorf("%s: got %q, want %q", c.ago, got, c.want)
		}
	}
	if got := age(now, nil); got != "" {
		t.Errorf("no time: got %q", got)
	}
}

func TestSizesAreSaidAsPeopleDo(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0B", 1023: "1023B", 1024: "1KiB", 1536: "1.5KiB", 512 << 20: "512MiB", 24 << 30: "24GiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}
