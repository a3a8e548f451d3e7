package cli

import (
	"bytes"
	"strings"
	"testing"
)

func TestWrongUsagePointsToTheRightOne(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"servce", "ls"}, []string{`unknown command "servce" for "swarmctl": did you mean service?`, "See 'swarmctl --help'"}},
		{[]string{"service", "destroy"}, []string{`unknown command "destroy" for "swarmctl service"`, "See 'swarmctl service --help'"}},
		{[]string{"service", "inspect"}, []string{"an argument is missing", "Usage: swarmctl service inspect SERVICE", "See 'swarmctl service inspect --help'"}},
		{[]string{"service", "inspect", "a", "b"}, []string{`"b" is one argument too many`, "Usage: swarmctl service inspect SERVICE"}},
		{[]string{"node", "ls", "extra"}, []string{`"extra" is one argument too many`, "See 'swarmctl node ls --help'"}},
		{[]string{"task", "ls", "--nope"}, []string{"unknown flag: --nope", "See 'swarmctl task ls --help'"}},
		{[]string{"task", "ls", "-o", "yaml"}, []string{`unknown output "yaml": choose table or json`}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			t.Parallel()
			var out, errs bytes.Buffer
			if got := Main(t.Context(), c.args, Streams{In: strings.NewReader(""), Out: &out, Err: &errs}); got != ExitError {
				t.Errorf("exit status %d, want %d", got, ExitError)
			}
			for _, want := range c.want {
				if !strings.Contains(errs.String(), want) {
					t.Errorf("it says %q, without %q", errs.String(), want)
				}
			}
			if out.Len() > 0 {
				t.Errorf("standard output holds %q", out.String())
			}
		})
	}
}

// A help text that names a type of Go, or repeats an empty default, was forgotten.
func TestHelpSaysWhatAFlagTakes(t *testing.T) {
	t.Parallel()
	for _, command := range [][]string{
		{}, {"service", "create"}, {"service", "update"}, {"service", "scale"}, {"service", "wait"}, {"task", "logs"}, {"node", "update"},
		{"cluster", "update"}, {"cluster", "join-token"}, {"cluster", "health"}, {"cluster", "rotate-ca"}, {"cluster", "unlock"}, {"cluster", "unlock-key"},
		{"cluster", "leave"}, {"node", "promote"}, {"node", "demote"}, {"cluster", "ls"}, {"cluster", "inspect"},
		{"node", "ls"}, {"node", "inspect"}, {"node", "activate"}, {"node", "pause"}, {"node", "drain"}, {"node", "rm"}, {"secret", "create"}, {"config", "create"},
	} {
		t.Run(strings.Join(command, " "), func(t *testing.T) {
			t.Parallel()
			var out, errs bytes.Buffer
			if got := Main(t.Context(), append(command, "--help"), Streams{In: strings.NewReader(""), Out: &out, Err: &errs}); got != ExitOK {
				t.Fatalf("exit status %d: %s", got, errs.String())
			}
			for _, forgotten := range []string{" string ", " strings ", "stringArray", "stringToString", " uint ", " int ", " duration ", "default []"} {
				for line := range strings.Lines(out.String()) {
					if strings.HasPrefix(strings.TrimSpace(line), "-") && strings.Contains(line, forgotten) {
						t.Errorf("%q holds %q", strings.TrimSpace(line), forgotten)
					}
				}
			}
			if len(command) > 1 && !strings.Contains(out.String(), "Examples:") {
				t.Error("it has no example")
			}
		})
	}
}
