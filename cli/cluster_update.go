package cli

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"skep/api"
)

func (a *app) clusterUpdate() *cobra.Command {
	var f clusterFlags
	c := &cobra.Command{
		Use: "update [NAME] [flags]", Short: "Change the swarm's settings", Args: arguments(0, 1),
		Example: `  swarmctl cluster update --heartbeatperiod 2s
  swarmctl cluster update --rotate-join-token worker
  swarmctl cluster update --autolock
  swarmctl cluster update --external-ca protocol=cfssl,url=https://ca.example.com/sign,cacert=root.pem`,
	}
	f.register(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		control, err := a.control()
		if err != nil {
			return err
		}
		cluster, err := a.clusters(control).find(c.Context(), clusterArg(args))
		if err != nil {
			return err
		}
		rotation, err := f.rotation()
		if err != nil {
			return err
		}
		spec := proto.CloneOf(cluster.GetSpec())
		if spec == nil {
			spec = &api.ClusterSpec{}
		}
		if err := f.apply(c, spec); err != nil {
			return err
		}
		if rotation == nil && proto.Equal(spec, cluster.Spec) {
			return usageError(c, errors.New("no changes detected"))
		}
		was := cluster.GetSpec().GetEncryptionConfig().GetAutoLockManagers()
		updated, err := a.updateCluster(c.Context(), control, cluster, spec, rotation)
		if err != nil {
			return err
		}
		fmt.Fprintln(a.Out, updated.Id)
		if c.Flags().Changed("heartbeat-tick") || c.Flags().Changed("election-tick") {
			fmt.Fprintln(a.Err, "Note: the raft ticks are stored for stock managers; managers of this release keep their own.")
		}
		if is := updated.GetSpec().GetEncryptionConfig().GetAutoLockManagers(); is && (!was || f.rotateUnlockKey) {
			return a.printUnlockKey(c.Context(), false)
		}
		return nil
	}
	return c
}

// updateCluster changes a cluster that has not changed since it was read.
func (a *app) updateCluster(ctx context.Context, control api.ControlClient, c *api.Cluster, spec *api.ClusterSpec, rotation *api.KeyRotation) (*api.Cluster, error) {
	r, err := control.UpdateCluster(ctx, &api.UpdateClusterRequest{
		ClusterId: c.Id, ClusterVersion: c.GetMeta().GetVersion(), Spec: spec, Rotation: rotation})
	return r.GetCluster(), err
}

// clusterFlags are the settings of a swarm.
type clusterFlags struct {
	history                                  int64
	expiry, heartbeat                        time.Duration
	logDriver                                string
	logOptions                               *map[string]string
	externalCAs                              []string
	autolock                                 bool
	snapshotInterval, keepSnapshots, entries uint64
	heartbeatTick, electionTick              uint32
	rotate                                   []string
	rotateUnlockKey                          bool
}

func (f *clusterFlags) register(c *cobra.Command) {
	flags := c.Flags()
	flags.Int64Var(&f.history, "taskhistory", 0, "keep `N` tasks of each slot that have ended")
	flags.DurationVar(&f.heartbeat, "heartbeatperiod", 0, "nodes say every `TIME` that they are there; one that is silent for three is down")
	flags.DurationVar(&f.expiry, "certexpiry", 0, "certificates of nodes are valid for `TIME`, 1h at least")
	flags.StringVar(&f.logDriver, "log-driver", "", "log `DRIVER` of tasks that name none")
	f.logOptions = pairs(flags, "log-opt", "", "option `KEY=VALUE` of that log driver")
	flags.BoolVar(&f.autolock, "autolock", false, "managers ask for the unlock key when they start; --autolock=false ends that")
	flags.StringArrayVar(&f.externalCAs, "external-ca", nil, "have certificates signed by `CA`: protocol=cfssl,url=URL[,cacert=FILE][,KEY=VALUE]; an empty one ends that")
	flags.Uint64Var(&f.snapshotInterval, "snapshot-interval", 0, "managers write a snapshot every `N` entries of the log")
	flags.Uint64Var(&f.keepSnapshots, "keep-snapshots", 0, "managers keep `N` snapshots beside the newest")
	flags.Uint64Var(&f.entries, "keep-entries", 0, "managers keep `N` entries behind a snapshot, so that one that lags need not load it")
	flags.Uint32Var(&f.heartbeatTick, "heartbeat-tick", 0, "the leader says every `N` ticks that it leads; stored for stock managers, those of this release keep their own ticks")
	flags.Uint32Var(&f.electionTick, "election-tick", 0, "managers elect after `N` ticks without a leader; stored for stock managers, those of this release keep their own ticks")
	flags.StringSliceVar(&f.rotate, "rotate-join-token", nil, "make a new join token for `ROLE` worker or manager; the old one is refused from then on")
	flags.BoolVar(&f.rotateUnlockKey, "rotate-unlock-key", false, "make a new unlock key and print it")
}

// apply changes in spec what was given.
func (f *clusterFlags) apply(c *cobra.Command, spec *api.ClusterSpec) error {
	raft := func() *api.RaftConfig { return orNew(&spec.Raft) }
	for flag, set := range map[string]func(){
		"taskhistory":       func() { orNew(&spec.Orchestration).TaskHistoryRetentionLimit = f.history },
		"heartbeatperiod":   func() { orNew(&spec.Dispatcher).HeartbeatPeriod = durationpb.New(f.heartbeat) },
		"certexpiry":        func() { orNew(&spec.CaConfig).NodeCertExpiry = durationpb.New(f.expiry) },
		"log-driver":        func() { orNew(&orNew(&spec.TaskDefaults).LogDriver).Name = f.logDriver },
		"log-opt":           func() { orNew(&orNew(&spec.TaskDefaults).LogDriver).Options = *f.logOptions },
		"autolock":          func() { orNew(&spec.EncryptionConfig).AutoLockManagers = f.autolock },
		"snapshot-interval": func() { raft().SnapshotInterval = f.snapshotInterval },
		"keep-snapshots":    func() { raft().KeepOldSnapshots = f.keepSnapshots },
		"keep-entries":      func() { raft().LogEntriesForSlowFollowers = f.entries },
		"heartbeat-tick":    func() { raft().HeartbeatTick = f.heartbeatTick },
		"election-tick":     func() { raft().ElectionTick = f.electionTick },
	} {
		if c.Flags().Changed(flag) {
			set()
		}
	}
	if !c.Flags().Changed("external-ca") {
		return nil
	}
	cas, err := parseExternalCAs(f.externalCAs)
	if err == nil {
		orNew(&spec.CaConfig).ExternalCas = cas
	}
	return err
}

// rotation says which keys are to be made anew; nil if none is.
func (f *clusterFlags) rotation() (*api.KeyRotation, error) {
	if len(f.rotate) == 0 && !f.rotateUnlockKey {
		return nil, nil //nolint:nilnil // nil is the request for none
	}
	rotation := &api.KeyRotation{ManagerUnlockKey: f.rotateUnlockKey}
	for _, role := range f.rotate {
		switch role {
		case "worker":
			rotation.WorkerJoinToken = true
		case "manager":
			rotation.ManagerJoinToken = true
		default:
			return nil, fmt.Errorf("--rotate-join-token: no role %q: choose worker or manager", role)
		}
	}
	return rotation, nil
}

// parseExternalCAs reads all values of --external-ca; an empty one is none.
func parseExternalCAs(values []string) ([]*api.ExternalCA, error) {
	var cas []*api.ExternalCA
	for _, v := range values {
		if v == "" {
			continue
		}
		ca, err := parseExternalCA(v)
		if err != nil {
			return nil, fmt.Errorf("--external-ca: %w", err)
		}
		cas = append(cas, ca)
	}
	return cas, nil
}

// parseExternalCA reads "protocol=cfssl,url=URL[,cacert=FILE][,KEY=VALUE]", which
// is a line of CSV: a value may be quoted.
func parseExternalCA(v string) (*api.ExternalCA, error) {
	const form = "protocol=cfssl,url=https://HOST/PATH[,cacert=FILE][,KEY=VALUE]"
	fields, err := csv.NewReader(strings.NewReader(v)).Read()
	if err != nil {
		return nil, fmt.Errorf("%q is not %s: %w", v, form, err)
	}
	ca := &api.ExternalCA{}
	protocol := ""
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok || key == "" {
			return nil, fmt.Errorf("%q is not KEY=VALUE; give %s", field, form)
		}
		switch strings.ToLower(key) {
		case "protocol":
			protocol = value
		case "url":
			ca.Url = value
		case "cacert":
			if ca.CaCert, err = os.ReadFile(value); err != nil {
				return nil, fmt.Errorf("the root that the CA signs with: %w", err)
			}
		default:
			if ca.Options == nil {
				ca.Options = map[string]string{}
			}
			ca.Options[key] = value
		}
	}
	switch {
	case !strings.EqualFold(protocol, "cfssl"):
		return nil, fmt.Errorf("no protocol %q: there is cfssl; give %s", protocol, form)
	case !strings.HasPrefix(ca.Url, "https://"):
		return nil, fmt.Errorf("url %q does not begin with https://: certificates are asked for over TLS only; give %s", ca.Url, form)
	}
	return ca, nil
}
