package main

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/spf13/cobra"

	"skep/node"
	"skep/raft/offline"
	"skep/raft/seal"
	"skep/vfs"
)

// debugOptions are the flags of all commands below debug.
type debugOptions struct {
	stateDir, keyFile, format string
}

func debugCommand() *cobra.Command {
	var o debugOptions
	c := &cobra.Command{
		Use:   "debug",
		Short: "Look into what a stopped manager has on disk",
		Long: `These commands read the raft log and the snapshots of a manager that does not
run. They write nothing, and show no secrets: data of secrets and configs, values of
environment variables, registry credentials, keys and tokens are left out.

If the manager is locked they ask for the swarm's unlock key, unless
--unlock-key-file names a file or $SWARM_UNLOCK_KEY holds it.`,
		Example: `  swarmd debug log verify --state-dir /var/lib/swarmd
  swarmd debug snapshot dump --state-dir /var/lib/swarmd`,
		Args: noSuchCommand,
		RunE: help,
	}
	f := c.PersistentFlags()
	f.StringVarP(&o.stateDir, "state-dir", "d", "/var/lib/swarmd", "`DIR` that swarmd keeps everything in")
	f.StringVar(&o.keyFile, "unlock-key-file", "", "`FILE` with the swarm's unlock key, for a locked manager")
	f.StringVarP(&o.format, "output", "o", "text", "`FORMAT` is text, or json: one object a line, with proto field names")
	c.AddCommand(o.logCommand(), o.snapshotCommand())
	return c
}

// noSuchCommand and help are for a command that only holds others.
func noSuchCommand(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unknown command %q for %q\nSee '%s --help'", args[0], c.CommandPath(), c.CommandPath())
	}
	return nil
}

func help(c *cobra.Command, _ []string) error { return c.Help() }

// run is a command that is told the raft directory and where to print.
func (o *debugOptions) run(do func(p *printer, d *offline.Dir) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, _ []string) (err error) {
		if o.format != "text" && o.format != "json" {
			return fmt.Errorf("unknown output %q: choose text or json", o.format)
		}
		state, err := node.OpenOffline(o.stateDir)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, state.Close()) }()
		keys, err := raftKeys(state.CertificatesDir(), o.keyFile, c.ErrOrStderr())
		if err != nil {
			return err
		}
		p := newPrinter(c.OutOrStdout(), o.format == "json")
		err = do(p, offline.Open(vfs.OS(), state.RaftDir(), *keys.Write(), keys.Read()...))
		return errors.Join(err, p.flush())
	}
}

func (o *debugOptions) logCommand() *cobra.Command {
	c := &cobra.Command{Use: "log", Short: "Look into the raft log", Args: noSuchCommand, RunE: help}
	start, end := uint64(0), uint64(math.MaxUint64)
	dump := &cobra.Command{
		Use:   "dump",
		Short: "Print the entries of the raft log",
		Long: `Prints one line for each entry: as text what it does, as json all of it. If the
log is damaged, the entries before the damage are printed, then the error.`,
		Example: `  swarmd debug log dump --state-dir /var/lib/swarmd --start 100 --end 200
  swarmd debug log dump -o json | jq 'select(.request.action[]?.service)'`,
		Args: cobra.NoArgs,
	}
	dump.RunE = o.run(func(p *printer, d *offline.Dir) error {
		if start > end {
			return fmt.Errorf("--start %d is after --end %d", start, end)
		}
		return dumpLog(p, dump.ErrOrStderr(), d, start, end)
	})
	dump.Flags().Uint64Var(&start, "start", start, "`INDEX` of the first entry to print")
	dump.Flags().Uint64Var(&end, "end", end, "`INDEX` of the last entry to print")
	dump.Flags().Lookup("end").DefValue = "0" // none is printed
	verify := &cobra.Command{
		Use:   "verify",
		Short: "Check that the raft log is as it was written",
		Long: `Reads all of the raft log, decodes each entry and says what is there, or names the
file and the offset of what is damaged and ends with status 1. An unfinished write at
the end is what a crash leaves: it is told, and no damage.`,
		Example: `  swarmd debug log verify --state-dir /var/lib/swarmd`,
		Args:    cobra.NoArgs,
		RunE:    o.run(verifyLog),
	}
	c.AddCommand(dump, verify)
	return c
}

func (o *debugOptions) snapshotCommand() *cobra.Command {
	c := &cobra.Command{Use: "snapshot", Short: "Look into the raft snapshots", Args: noSuchCommand, RunE: help}
	var index uint64
	dump := &cobra.Command{
		Use:   "dump",
		Short: "Print the state that a snapshot holds",
		Long: `Prints the members of the managers' group and all objects of the newest snapshot,
or of the one that --index names: as text a line for each, as json all of it.`,
		Example: `  swarmd debug snapshot dump --state-dir /var/lib/swarmd
  swarmd debug snapshot dump --index 12000 -o json | jq 'select(.kind == "service")'`,
		Args: cobra.NoArgs,
		RunE: o.run(func(p *printer, d *offline.Dir) error { return dumpSnapshot(p, d, index) }),
	}
	dump.Flags().Uint64Var(&index, "index", 0, "`INDEX` of the snapshot (default: the newest)")
	verify := &cobra.Command{
		Use:   "verify",
		Short: "Check that the snapshots are as they were written",
		Long: `Reads all snapshots and all objects in them and says what is there, or names the
file and the offset of what is damaged and ends with status 1.`,
		Example: `  swarmd debug snapshot verify --state-dir /var/lib/swarmd`,
		Args:    cobra.NoArgs,
		RunE:    o.run(verifySnapshots),
	}
	c.AddCommand(dump, verify)
	return c
}

func dumpLog(p *printer, notes io.Writer, d *offline.Dir, start, end uint64) error {
	found, err := d.Log()
	p.row("INDEX", "TERM", "TYPE", "BYTES", "WHAT")
	for _, e := range found.Entries {
		if e.GetIndex() < start || e.GetIndex() > end {
			continue
		}
		said, bad := offline.Decode(e)
		if bad != nil {
			err = errors.Join(err, bad)
		}
		p.entry(e, said, bad)
	}
	if cut := found.Cut; cut != nil {
		fmt.Fprintf(notes, "Note: %s\n", torn(cut))
	}
	return err
}

func verifyLog(p *printer, d *offline.Dir) error {
	found, err := d.Log()
	for _, e := range found.Entries {
		if _, bad := offline.Decode(e); bad != nil {
			err = errors.Join(err, bad)
		}
	}
	p.verified(logReport(found), err)
	return err
}

// verifySnapshots checks all, whatever is wrong with one.
func verifySnapshots(p *printer, d *offline.Dir) error {
	indexes, err := d.Snapshots()
	if err != nil {
		return err
	}
	if len(indexes) == 0 {
		p.verified(report{text: "no snapshots yet"}, nil)
	}
	var all error
	for _, index := range indexes {
		meta, state, err := d.Snapshot(index)
		p.verified(snapshotReport(d.SnapshotFile(index), index, meta, state), err)
		all = errors.Join(all, err)
	}
	return all
}

func dumpSnapshot(p *printer, d *offline.Dir, index uint64) error {
	if index == 0 {
		indexes, err := d.Snapshots()
		if err != nil {
			return err
		}
		if len(indexes) == 0 {
			return errors.New("there is no snapshot yet: all of the state is in the log, see 'swarmd debug log dump'")
		}
		index = indexes[0]
	}
	meta, state, err := d.Snapshot(index)
	if err != nil {
		return err
	}
	p.snapshot(meta)
	p.row("KIND", "ID", "NAME", "WHAT")
	for o := range offline.Objects(state) {
		p.object(o)
	}
	return nil
}

// place returns where an error says that the damage is.
func place(err error) (file string, offset int64, ok bool) {
	var damage *seal.DamageError
	if !errors.As(err, &damage) {
		return "", 0, false
	}
	return damage.File, damage.Offset, true
}
