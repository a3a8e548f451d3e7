package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/api/skep"
	"skep/ca"
)

// bubble runs a test on a swarm in fake time.
func bubble(t *testing.T, managers, workers int, test func(t *testing.T, s *swarm)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { test(t, newSwarm(t, managers, workers)) })
}

func noLeader() error {
	return status.Error(codes.Unavailable, "no manager leads: host-m2 (10.0.0.2:4242) and host-m3 (10.0.0.3:4242) are unreachable\nStart one of them")
}

func TestHealthIsOneScreenAndAnExitStatus(t *testing.T) {
	bubble(t, 3, 1, func(t *testing.T, s *swarm) {
		r := s.ctl("cluster", "health")
		const want = `The swarm can lose 1 of its 3 managers.

HOSTNAME  STATUS     ADDRESS        BEHIND  CERTIFICATE  VERSION
host-m1   Leader     10.0.0.1:4242  0                    v1
host-m2   Reachable  10.0.0.2:4242  0                    v1
host-m3   Reachable  10.0.0.3:4242  0                    v1
`
		if r.status != ExitOK || r.out != want || r.errs != "" {
			t.Errorf("exit status %d, output\n%s%s\nwant\n%s", r.status, r.out, r.errs, want)
		}
		s.locked(func() {
			s.raft.Members[2].Reachability, s.raft.Members[2].UnreachableSince, s.raft.Members[2].Match = api.RaftMemberStatus_UNREACHABLE, time.Now().Add(-5*time.Minute), 58
		})
		s.ctl("cluster", "health").expect(t, ExitFailed,
			"The swarm cannot lose another manager: 2 of 3 managers are reachable and 2 are needed.\n",
			"host-m3   Unreachable (5 minutes ago)  10.0.0.3:4242  42 ",
			"\nCritical: manager host-m3 is unreachable since 1999-12-31T23:55:00Z\n  why:  the leader", "\n  next: start swarmd on host-m3")
		s.locked(func() { s.raft.Members[1].Reachability = api.RaftMemberStatus_UNREACHABLE })
		s.ctl("cluster", "health").expect(t, ExitUnavailable, "The swarm cannot be changed: 1 of 3 managers is reachable and 2 are needed.")
	})
}

func TestHealthIsJSONWithTheSameExitStatus(t *testing.T) {
	bubble(t, 3, 0, func(t *testing.T, s *swarm) {
		s.locked(func() { s.raft.Members[2].Reachability = api.RaftMemberStatus_UNREACHABLE })
		r := s.ctl("cluster", "health", "-o", "json")
		var h struct {
			State, Verdict string
			Managers       []struct{ Hostname, Reachability string }
			CanLose        int `json:"can_lose"`
			Problems       []struct{ Severity, What, Why, Next string }
		}
		if err := json.Unmarshal([]byte(r.out), &h); err != nil {
			t.Fatalf("%v in %s", err, r.out)
		}
		if r.status != ExitFailed || r.errs != "" || h.State != "CRITICAL" || len(h.Managers) != 3 || h.Managers[2].Reachability != "UNREACHABLE" || len(h.Problems) != 1 || h.Problems[0].Next == "" {
			t.Errorf("exit status %d, got %+v, want three managers, of which the last is unreachable, and one problem", r.status, h)
		}
	})
}

func TestHealthWithoutALeaderTellsWhatThisManagerKnows(t *testing.T) {
	bubble(t, 3, 0, func(t *testing.T, s *swarm) {
		s.locked(func() { s.err, s.node.Leader, s.node.Message = noLeader(), false, "no manager leads yet" })
		s.ctl("cluster", "health").expect(t, ExitUnavailable,
			"The swarm cannot be changed: no manager leads it.\n",
			"m1         Reachable  10.0.0.1:4242", "(unknown)  Unknown    10.0.0.2:4242", "(unknown)  Unknown    10.0.0.3:4242",
			"\nCritical: no manager leads\n  why:  no manager leads: host-m2 (10.0.0.2:4242)", "\n        Start one of them\n", "  next: start the managers that are missing",
			"\nNote: this node says what it waits for\n  why:  no manager leads yet\n")
		s.ctl("cluster", "health", "-o", "json").expect(t, ExitUnavailable, `"state": "NO_QUORUM"`)
		s.locked(func() { s.node.State = skep.StatusResponse_LOCKED })
		s.ctl("cluster", "health").expect(t, ExitUnavailable, "This manager is locked.\n", "  next: give it the unlock key: 'swarmctl cluster unlock'")
	})
}

func TestHealthShowsCertificatesAndTheRotationOfTheRoot(t *testing.T) {
	bubble(t, 1, 5, func(t *testing.T, s *swarm) {
		root := newRoot(t)
		s.editNode("m1", func(n *api.Node) { n.Certificate = &api.Certificate{Certificate: root} })
		s.editCluster(func(c *api.Cluster) { c.RootCa.RootRotation = &api.RootRotation{CaCert: root} })
		s.converge("m1")
		s.editNode("w4", func(n *api.Node) { n.Status.State = api.NodeStatus_DOWN })
		s.ctl("cluster", "health").expect(t, ExitOK,
			"The swarm cannot lose its only manager.\n", "7305 days left",
			"\nThe root certificate is being replaced: 1/6 nodes have certificates of the new root; waits for host-w4 (it is down), host-w1, host-w2 and 2 more\n",
			"\nWarning: the new root certificate waits for node host-w4\n")
	})
}

func TestInspectShowsManagersRootAndLock(t *testing.T) {
	bubble(t, 3, 1, func(t *testing.T, s *swarm) {
		s.locked(func() { s.raft.Members[2].Reachability = api.RaftMemberStatus_UNREACHABLE })
		s.ctl("cluster", "inspect").expect(t, ExitOK,
			"Root certificate:      "+ca.HashOf([]byte("OLD")), "Autolock:              no",
			"Manager:               host-m1 10.0.0.1:4242 Leader\n", "Manager:               host-m2 10.0.0.2:4242 Reachable\n", "Manager:               host-m3 10.0.0.3:4242 Unreachable\n")
		s.editCluster(func(c *api.Cluster) {
			c.Spec.EncryptionConfig = &api.EncryptionConfig{AutoLockManagers: true}
			c.RootCa.RootRotation, c.RootCa.CaKey = &api.RootRotation{CaCert: newRoot(t), CaKey: []byte("KEY")}, []byte("KEY")
		})
		s.converge("w1")
		s.ctl("cluster", "inspect").expect(t, ExitOK, "Root rotation:         1/4 nodes have certificates of the new root; waits for host-m1, host-m2, host-m3\n", "Autolock:              yes")
		r := s.ctl("cluster", "inspect", "-o", "json")
		r.expect(t, ExitOK, `"auto_lock_managers": true`, `"root_rotation": {`)
		if strings.Contains(r.out, "ca_key") {
			t.Errorf("a key is shown: %s", r.out)
		}
	})
}

func TestTheTokenComesWithAManagerThatIsReachable(t *testing.T) {
	bubble(t, 3, 0, func(t *testing.T, s *swarm) {
		s.ctl("cluster", "join-token", "manager").expect(t, ExitOK, "swarmd --join-addr 10.0.0.1:4242 --join-token SWMTKN-m\n")
		s.locked(func() { s.raft.Leader, s.raft.Members[2].Reachability = 0, api.RaftMemberStatus_UNREACHABLE })
		s.locked(func() { s.raft.Members[0].Reachability = api.RaftMemberStatus_UNREACHABLE })
		s.ctl("cluster", "join-token", "worker").expect(t, ExitOK, "--join-addr 10.0.0.2:4242 ")
	})
}

func TestSettingsOfTheSwarmAreChanged(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(root, []byte("ROOT"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := newSwarm(t, 1, 0)
		s.ctl("cluster", "update", "--snapshot-interval", "5000", "--keep-entries", "100", "--keep-snapshots", "2", "--heartbeat-tick", "2", "--election-tick", "20",
			"--taskhistory", "3", "--certexpiry", "24h", "--external-ca", "protocol=cfssl,url=https://ca.test/sign,cacert="+root+",label=x", "--external-ca", `"protocol=CFSSL","url=https://other.test/a,b"`).
			expect(t, ExitOK, clusterID+"\n", "Note: the raft ticks are stored for stock managers; managers of this release keep their own.\n")
		s.ctl("cluster", "inspect").expect(t, ExitOK, "heartbeat 2, election 20 (for stock managers; those of this release keep their own)")
		s.ctl("cluster", "update", "--help").expect(t, ExitOK, "without a leader; stored for stock managers, those of this release keep their own ticks")
		spec := s.clusterNow().Spec
		if r := spec.Raft; r.SnapshotInterval != 5000 || r.LogEntriesForSlowFollowers != 100 || r.KeepOldSnapshots != 2 || r.HeartbeatTick != 2 || r.ElectionTick != 20 {
			t.Errorf("raft settings are %v", r)
		}
		if c := spec.CaConfig; c.NodeCertExpiry.AsDuration() != 24*time.Hour || len(c.ExternalCas) != 2 || string(c.ExternalCas[0].CaCert) != "ROOT" ||
			c.ExternalCas[0].Options["label"] != "x" || c.ExternalCas[1].Url != "https://other.test/a,b" {
			t.Errorf("CA settings are %v", c)
		}
		s.ctl("cluster", "update", "--external-ca", "").expect(t, ExitOK, clusterID)
		if got := s.clusterNow().Spec.CaConfig.ExternalCas; len(got) != 0 {
			t.Errorf("external CAs are %v, want none", got)
		}
		s.ctl("cluster", "update", "--rotate-join-token", "worker").expect(t, ExitOK, clusterID)
		s.ctl("cluster", "join-token", "-q", "worker").expect(t, ExitOK, "SWMTKN-new\n")
		s.ctl("cluster", "update", "--taskhistory", "3").expect(t, ExitError, "no changes detected")
		s.ctl("cluster", "update", "nowhere", "--taskhistory", "4").expect(t, ExitNotFound, `cluster "nowhere" not found`)
	})
}

func TestAnExternalCAIsReadOrRefusedWithItsForm(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"url=https://a":                               `no protocol ""`,
		"protocol=acme,url=https://a":                 `no protocol "acme"`,
		"protocol=cfssl":                              `url "" does not begin with https://`,
		"protocol=cfssl,url=http://a":                 `url "http://a" does not begin with https://`,
		"protocol=cfssl,nonsense":                     `"nonsense" is not KEY=VALUE`,
		`protocol=cfssl,"url`:                         "is not protocol=cfssl,url=",
		"protocol=cfssl,url=https://a,cacert=nowhere": "open nowhere",
	} {
		if got, err := parseExternalCA(value); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v; want an error with %q", value, got, err, want)
		}
	}
}

func TestLockingManagersPrintsTheKeyThatUnlocksThem(t *testing.T) {
	bubble(t, 1, 0, func(t *testing.T, s *swarm) {
		s.ctl("cluster", "unlock-key").expect(t, ExitError, "managers are not locked; 'swarmctl cluster update --autolock'")
		r := s.ctl("cluster", "update", "--autolock")
		const first = goodKey
		r.expect(t, ExitOK, clusterID+"\nUnlock key: "+first+"\n", "Keep it where no manager's disk is")
		s.ctl("cluster", "update", "--autolock").expect(t, ExitError, "no changes detected")
		if r := s.ctl("cluster", "unlock-key", "-q"); r.out != first+"\n" || r.errs != "" {
			t.Errorf("got %q and %q, want the key alone", r.out, r.errs)
		}
		const second = wrongKey
		if r := s.ctl("cluster", "unlock-key", "-q", "--rotate"); r.out != second+"\n" {
			t.Errorf("got %q, want a new key", r.out)
		}
		s.ctl("cluster", "update", "--rotate-unlock-key").expect(t, ExitOK, clusterID+"\nUnlock key: SWMKEY-1-Ag")
		s.ctl("cluster", "update", "--autolock=false").expect(t, ExitOK, clusterID+"\n")
		if s.clusterNow().Spec.EncryptionConfig.AutoLockManagers {
			t.Error("managers are locked still")
		}
	})
}

func TestUnlockingTakesTheKeyFromStandardInputAndWaits(t *testing.T) {
	bubble(t, 1, 0, func(t *testing.T, s *swarm) {
		s.with(t.Context(), goodKey, "cluster", "unlock").expect(t, ExitError, "this node is not locked")
		s.locked(func() { s.node.State = skep.StatusResponse_LOCKED })
		for typed, want := range map[string]string{
			"\n":         "no unlock key was given",
			"SWMTKN-1-a": "invalid unlock key: this is a join token",
			"SWMKEY-1-a": "it may have been cut off",
			wrongKey:     "the key does not fit",
		} {
			s.with(t.Context(), typed, "cluster", "unlock").expect(t, ExitError, want)
		}
		r := s.with(t.Context(), "", "cluster", "unlock", goodKey)
		r.expect(t, ExitError, "the key is no argument")
		if strings.Contains(r.errs, goodKey) {
			t.Errorf("the key is repeated: %s", r.errs)
		}
		start := time.Now()
		r = s.with(t.Context(), "Unlock key: "+goodKey+"\n", "cluster", "unlock")
		r.expect(t, ExitOK, "manager: reads its log\n", "manager: unlocked\n")
		if waited := time.Since(start); waited != 2*time.Second || r.out != "" {
			t.Errorf("it came back after %s with %q, want 2s and nothing", waited, r.out)
		}
	})
}

func TestTheVariableWithTheKeyComesFirst(t *testing.T) {
	t.Parallel()
	a := &app{Streams: Streams{In: strings.NewReader(wrongKey)}}
	if got, err := a.unlockKey(goodKey); err != nil || got != goodKey {
		t.Errorf("got %q, %v, want the one of the environment", got, err)
	}
}

func TestANewRootIsWaitedForNodeByNode(t *testing.T) {
	bubble(t, 1, 2, func(t *testing.T, s *swarm) {
		s.after(1*time.Second, func() { s.converge("m1") })
		s.after(2*time.Second, func() { s.converge("w1") })
		s.after(3*time.Second, func() { s.editNode("w2", func(n *api.Node) { n.Status.State = api.NodeStatus_DOWN }) })
		s.after(4*time.Second, func() { s.locked(func() { s.err = noLeader() }) })
		s.after(5*time.Second, func() { s.locked(func() { s.err = nil }) })
		s.after(6*time.Second, func() { s.editNode("w2", func(n *api.Node) { n.Status.State = api.NodeStatus_READY }) })
		s.after(17*time.Second, func() { s.converge("w2") })
		s.after(18*time.Second, s.adopt)
		start := time.Now()
		r := s.ctl("cluster", "rotate-ca")
		r.expect(t, ExitOK, s.clusterNow().RootCa.CaCertHash+"\n",
			": 0/3 nodes have certificates of the new root\n", ": 1/3 nodes", ": 2/3 nodes have certificates of the new root\n",
			": 2/3 nodes have certificates of the new root; waits for host-w2 (it is down)\n",
			"waits for a manager: no manager leads", ": 2/3 nodes",
			// It has no reason any more, but nothing has moved for ten seconds.
			": 2/3 nodes have certificates of the new root; waits for host-w2\n",
			": 3/3 nodes", "every node has a certificate of the new root\n")
		if waited := time.Since(start); waited < 18*time.Second || waited > 19*time.Second {
			t.Errorf("it came back after %s, want 18s", waited)
		}
	})
}

func TestARotationThatTakesLongIsLeftToTheSwarm(t *testing.T) {
	bubble(t, 1, 2, func(t *testing.T, s *swarm) {
		s.ctl("cluster", "rotate-ca", "--timeout", "12s").expect(t, ExitTimeout,
			"Error: it is not so after 12s that every node has a certificate of the new root: 0/3 nodes have certificates of the new root; waits for host-m1, host-w1, host-w2\nThe operation goes on, see 'swarmctl cluster health'.")
		target := ca.HashOf(s.clusterNow().RootCa.RootRotation.CaCert)
		if r := s.ctl("cluster", "rotate-ca", "--cancel"); r.status != ExitOK || r.out != ca.HashOf([]byte("OLD"))+"\n" {
			t.Errorf("exit status %d, got %q, want the digest of the old root", r.status, r.out+r.errs)
		}
		s.ctl("cluster", "rotate-ca", "--cancel").expect(t, ExitError, "there is nothing to cancel")
		r := s.ctl("cluster", "rotate-ca", "--detach")
		if now := ca.HashOf(s.clusterNow().RootCa.RootRotation.CaCert); r.status != ExitOK || r.out != now+"\n" || now == target {
			t.Errorf("exit status %d, got %q, want the digest of another new root at once", r.status, r.out)
		}
	})
}

func TestAnotherRotationOrItsEndEndsTheWaiting(t *testing.T) {
	bubble(t, 1, 2, func(t *testing.T, s *swarm) {
		s.after(2*time.Second, func() { s.editCluster(func(c *api.Cluster) { c.RootCa.RootRotation.CaCert = newRoot(t) }) })
		s.ctl("cluster", "rotate-ca").expect(t, ExitFailed, "another rotation has replaced this one: it goes to root certificate sha256:")
		s.after(2*time.Second, func() { s.editCluster(func(c *api.Cluster) { c.RootCa.RootRotation = nil }) })
		s.ctl("cluster", "rotate-ca").expect(t, ExitFailed, "the rotation was cancelled meanwhile: the root certificate is "+ca.HashOf([]byte("OLD")))
	})
}

func TestARootThatIsGivenIsRotatedTo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "c"), filepath.Join(dir, "k")
	bundle := newRoot(t)
	for file, content := range map[string][]byte{cert: bundle, key: []byte("KEY")} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		s := newSwarm(t, 1, 0)
		s.ctl("cluster", "rotate-ca", "-d", "--ca-cert", cert, "--ca-key", key).expect(t, ExitOK, ca.HashOf(bundle)+"\n")
		if r := s.clusterNow().RootCa.RootRotation; string(r.CaKey) != "KEY" {
			t.Errorf("the rotation is %v, want the key that was given", r)
		}
		s.ctl("cluster", "rotate-ca", "-d", "--ca-cert", cert, "--external-ca", "protocol=cfssl,url=https://a/b").expect(t, ExitOK, ca.HashOf(bundle)+"\n")
		if got := s.clusterNow().Spec.CaConfig.ExternalCas; len(got) != 1 || got[0].Url != "https://a/b" {
			t.Errorf("external CAs are %v, want the one that was given", got)
		}
		s.ctl("cluster", "rotate-ca", "--ca-key", key).expect(t, ExitError, "--ca-key is the key of --ca-cert")
		s.ctl("cluster", "rotate-ca", "--cancel", "--ca-cert", cert).expect(t, ExitError, "--cancel goes back")
		s.ctl("cluster", "rotate-ca", "--ca-cert", filepath.Join(dir, "none")).expect(t, ExitError, "--ca-cert: open ")
	})
}

func TestAWorkerLeavesAndTellsHow(t *testing.T) {
	bubble(t, 1, 0, func(t *testing.T, s *swarm) {
		s.locked(func() { s.node.NodeId, s.node.Manager, s.node.Leader, s.node.Addr = "w1", false, false, "" })
		r := s.ctl("cluster", "leave")
		r.expect(t, ExitOK, "This node has left the swarm.\n", "leave: stops its tasks\n", "leave: leaves the other managers\n", "leave: removes what is on disk\n")
		if len(s.left) != 1 || s.left[0].Force {
			t.Errorf("it was asked %v, want one request without force", s.left)
		}
	})
}

func TestAManagerLeavesWithForceOnly(t *testing.T) {
	bubble(t, 3, 0, func(t *testing.T, s *swarm) {
		s.with(t.Context(), "y\n", "cluster", "leave").expect(t, ExitError,
			"Error: this node is a manager: the 2 that are left cannot lose another one then.\nDemote it first with 'swarmctl node demote m1', or give --force.\n")
		if len(s.left) != 0 {
			t.Errorf("it was asked to leave: %v", s.left)
		}
		s.ctl("cluster", "leave", "--force").expect(t, ExitOK, "This node has left the swarm.")
	})
}

func TestTheLastManagerEndsTheSwarm(t *testing.T) {
	bubble(t, 1, 0, func(t *testing.T, s *swarm) {
		s.ctl("cluster", "leave").expect(t, ExitError, "it is the only one. The swarm ends with it", "\nIf that is what you want, give --force.\n")
	})
}

func TestInterruptingLeaveSaysThatItGoesOn(t *testing.T) {
	bubble(t, 1, 0, func(t *testing.T, s *swarm) {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		s.with(ctx, "", "cluster", "leave", "--force").expect(t, ExitInterrupted, "interrupted; the node goes on leaving")
	})
}

func TestWhatIsLostWithAManagerIsSaid(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why                   string
		managers, unreachable int
		want                  string
	}{
		{"the last takes all with it", 1, 0, "The swarm ends with it"},
		{"of two one is left", 2, 0, "the only one that is left cannot be lost"},
		{"three become two", 3, 0, "the 2 that are left cannot lose another one"},
		{"five become four", 5, 0, "the 4 that are left can lose 1 then"},
		{"without it the rest is too few", 3, 1, "of the 2 managers that are left, 2 must be there and only 1 can be reached"},
	} {
		h := &skep.ClusterHealthResponse{Voters: uint32(c.managers)}
		for i := range c.managers {
			m := &skep.ManagerHealth{NodeId: "m", Reachability: skep.ManagerHealth_REACHABLE}
			if i > 0 {
				m.NodeId = "other"
			}
			if i > c.managers-1-c.unreachable {
				m.Reachability = skep.ManagerHealth_UNREACHABLE
			}
			h.Managers = append(h.Managers, m)
		}
		if got, last := lossOf(h, "m"); !strings.Contains(got, c.want) || last != (c.managers == 1) {
			t.Errorf("%s: got %q and that it is the last: %v; want %q", c.why, got, last, c.want)
		}
	}
}

func TestNoIsTheAnswerUnlessYesIsTyped(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]bool{"y\n": true, "YES\n": true, "": false, "\n": false, "no\n": false, "yep\n": false} {
		var out strings.Builder
		if got, err := confirm(strings.NewReader(typed), &out, "Leave?"); err != nil || got != want || out.String() != "Leave? [y/N] " {
			t.Errorf("%q: got %v, %v after %q; want %v", typed, got, err, out.String(), want)
		}
	}
}

func TestACertificateHasSomeTimeLeftOrHasExpired(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for left, want := range map[time.Duration]string{-1: "expired", 0: "expired", time.Minute: "1 minute left", 49 * time.Hour: "2 days left"} {
		if got := until(now, timestamppb.New(now.Add(left))); got != want {
			t.Errorf("%s: got %q, want %q", left, got, want)
		}
	}
}
