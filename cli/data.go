package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
)

// dataNoun is what secrets and configs have in common: named bytes that are
// created from a file and never change.
type dataNoun[T object] struct {
	kind, short string
	argument    string // what a help text calls it
	finder      func(api.ControlClient) finder[T]
	create      func(ctx context.Context, control api.ControlClient, c content) (T, error)
	remove      func(ctx context.Context, control api.ControlClient, id string) error
	columns     []column[T]
	created     func(T) *timestamppb.Timestamp
	summarize   func(*summary, T)
	hasDriver   bool
}

// content is what a secret or config is made of.
type content struct {
	annotations *api.Annotations
	data        []byte
	driver      *api.Driver // nil: the data is the content
	templating  *api.Driver // nil: it is taken as it is
}

func (d dataNoun[T]) command(a *app) *cobra.Command {
	return noun(d.kind, d.short, d.createCommand(a), d.listCommand(a), d.inspectCommand(a), d.removeCommand(a))
}

func (d dataNoun[T]) createCommand(a *app) *cobra.Command {
	var name, file, driver, templating string
	var labels *map[string]string
	c := &cobra.Command{
		Use: "create [NAME] [FILE|-]", Short: "Create a " + d.kind + " from a file or standard input", Args: arguments(0, 2),
		Example: fmt.Sprintf("  swarmctl %[1]s create site.conf ./site.conf\n  printf hunter2 | swarmctl %[1]s create password -\n  swarmctl %[1]s create node.conf ./node.conf.tmpl --template-driver golang", d.kind),
		RunE: func(c *cobra.Command, args []string) error {
			name, rest, err := nameArg(name, args)
			if err != nil {
				return err
			}
			if len(rest) > 1 || len(rest) == 1 && file != "" {
				return fmt.Errorf("the content is given twice: choose one of FILE and --file")
			}
			if len(rest) == 1 {
				file = rest[0]
			}
			var data []byte
			if driver == "" {
				if data, err = a.read(file); err != nil {
					return err
				}
			}
			control, err := a.control()
			if err != nil {
				return err
			}
			made, err := d.create(c.Context(), control, content{
				annotations: &api.Annotations{Name: name, Labels: *labels},
				data:        data, driver: named(driver), templating: named(templating),
			})
			if err != nil {
				return err
			}
			fmt.Fprintln(a.Out, made.GetId())
			return nil
		},
	}
	c.Flags().StringVar(&name, "name", "", "its `NAME`, if not given as an argument")
	c.Flags().StringVarP(&file, "file", "f", "", "read the content from `FILE` (-: standard input)")
	labels = pairs(c.Flags(), "label", "l", "label `KEY=VALUE`")
	c.Flags().StringVar(&templating, "template-driver", "", "expand {{.Service.Name}} and its like for each task with `DRIVER` golang")
	if d.hasDriver {
		c.Flags().StringVarP(&driver, "driver", "d", "", "`DRIVER` that provides the content")
	}
	return c
}

// named is the driver of that name, nil if there is no name.
func named(driver string) *api.Driver {
	if driver == "" {
		return nil
	}
	return &api.Driver{Name: driver}
}

// read reads the file that was named, or standard input.
func (a *app) read(file string) ([]byte, error) {
	if file == "" || file == "-" {
		data, err := io.ReadAll(a.In)
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return data, nil
	}
	return os.ReadFile(file)
}

// nameArg takes an object's name from --name or from the first argument.
func nameArg(flag string, args []string) (name string, rest []string, err error) {
	switch {
	case flag != "":
		return flag, args, nil
	case len(args) > 0:
		return args[0], args[1:], nil
	}
	return "", nil, fmt.Errorf("a name is missing: give it as an argument or with --name")
}

func (d dataNoun[T]) listCommand(a *app) *cobra.Command {
	var quiet bool
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List " + d.kind + "s, the newest first", Args: arguments(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			control, err := a.control()
			if err != nil {
				return err
			}
			items, err := d.finder(control).list(c.Context(), query{})
			if err != nil {
				return err
			}
			slices.SortStableFunc(items, func(x, y T) int { return d.created(y).AsTime().Compare(d.created(x).AsTime()) })
			now := time.Now()
			return list(a, quiet, items, append(d.columns, column[T]{"CREATED", func(v T) string { return age(now, d.created(v)) }}))
		},
	}
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print IDs only")
	return c
}

func (d dataNoun[T]) inspectCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "inspect " + d.argument, Short: "Show one " + d.kind, Args: arguments(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			control, err := a.control()
			if err != nil {
				return err
			}
			found, err := d.finder(control).find(c.Context(), args[0])
			if err != nil {
				return err
			}
			return inspect(a, found, func(s *summary) { d.summarize(s, found) })
		},
	}
}

func (d dataNoun[T]) removeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "rm " + d.argument + "…", Aliases: []string{"remove"}, Short: "Remove " + d.kind + "s that no service uses", Args: arguments(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			control, err := a.control()
			if err != nil {
				return err
			}
			return each(c.Context(), a, d.finder(control), args, func(v T) error {
				if err := d.remove(c.Context(), control, v.GetId()); err != nil {
					return err
				}
				fmt.Fprintln(a.Out, v.GetId())
				return nil
			})
		},
	}
}
