package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// likeness is how many letters may differ between what was typed and what is
// suggested instead.
const likeness = 2

// noun makes the command that groups the verbs of one kind of object.
func noun(use, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short,
		Args: knownVerb,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(verbs...)
	return c
}

// knownVerb refuses a word that is no command, and names those that are like it.
func knownVerb(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	c.SuggestionsMinimumDistance = likeness
	err := fmt.Errorf("unknown command %q for %q", args[0], c.CommandPath())
	if like := c.SuggestionsFor(args[0]); len(like) > 0 {
		err = fmt.Errorf("%w: did you mean %s?", err, strings.Join(like, " or "))
	}
	return err
}

// arguments takes from least to most arguments; most < 0 is any number.
func arguments(least, most int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < least && len(args) == 0:
			return errors.New("an argument is missing")
		case len(args) < least:
			return fmt.Errorf("%d arguments are needed, got %d", least, len(args))
		case most >= 0 && len(args) > most:
			return fmt.Errorf("%q is one argument too many", args[most])
		}
		return nil
	}
}

// explain makes wrong usage of c, and of all below it, point to the usage.
func explain(c *cobra.Command) {
	c.Flags().SortFlags = false
	c.SetFlagErrorFunc(usageError)
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usageError(c, err)
			}
			return nil
		}
	}
	for _, below := range c.Commands() {
		explain(below)
	}
}

// usageError adds to err how c is used.
func usageError(c *cobra.Command, err error) error {
	if c.HasSubCommands() {
		return fmt.Errorf("%w\nSee '%s --help'", err, c.CommandPath())
	}
	return fmt.Errorf("%w\nUsage: %s\nSee '%s --help'", err, c.UseLine(), c.CommandPath())
}

// pairs defines a flag that takes KEY=VALUE, several times or separated by commas.
func pairs(set *pflag.FlagSet, name, short, usage string) *map[string]string {
	value := set.StringToStringP(name, short, nil, usage)
	set.Lookup(name).DefValue = "" // the empty map is nothing to tell
	return value
}
