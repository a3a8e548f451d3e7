package insight

import (
	"cmp"
	"fmt"
	"iter"
	"net"
	"slices"
	"strings"
	"time"

	"skep/api"
	"skep/api/skep"
)

const (
	// lag is how many entries a manager may be behind without a word: a busy leader
	// always has some under way.
	lag = 5000
	// lateRenewal is the part of a certificate's validity that is left when it is
	// late: nodes renew theirs when half to four fifths of it are over.
	lateRenewal = 0.15
	// lateRoot is how long before its end the root is to be replaced: every node
	// needs a new certificate first.
	lateRoot = 90 * 24 * time.Hour
	// manyVoters is more managers than a swarm gains by.
	manyVoters = 7
)

// Judge says how the swarm's managers are, what is wrong and what to do about it,
// from what raft, the cluster and the nodes say at now. The cluster may be nil.
func Judge(now time.Time, raft Raft, cluster *api.Cluster, nodes iter.Seq[*api.Node]) *skep.ClusterHealthResponse {
	f := gather(now, raft, cluster, nodes)
	r := &skep.ClusterHealthResponse{
		Term: raft.Term, CommitIndex: raft.Commit,
		Autolock:     cluster.GetSpec().GetEncryptionConfig().GetAutoLockManagers(),
		RootDigest:   cluster.GetRootCa().GetCaCertHash(),
		RootRotation: f.rotation,
	}
	present := uint32(0)
	for _, m := range f.managers {
		r.Managers = append(r.Managers, m.ManagerHealth)
		if m.Leader {
			r.LeaderNodeId = m.NodeId
		}
		if !m.Learner {
			r.Voters++
			if m.reachable() {
				present++
			}
		}
	}
	r.Quorum = r.Voters/2 + 1
	r.CanLose = max(present, r.Quorum) - r.Quorum

	j := judgement{facts: f, response: r, present: present}
	j.quorum()
	j.reachability()
	j.certificates()
	j.places()
	j.progress()
	j.size()
	slices.SortStableFunc(j.response.Problems, func(x, y *skep.Problem) int { return cmp.Compare(y.Severity, x.Severity) })
	j.conclude()
	return r
}

// judgement is one that is being made.
type judgement struct {
	facts
	response *skep.ClusterHealthResponse
	// present is how many of those that vote are reachable.
	present uint32
}

func (j *judgement) problem(severity skep.Problem_Severity, what, why, next string) {
	j.response.Problems = append(j.response.Problems, &skep.Problem{Severity: severity, What: what, Why: why, Next: next})
}

// quorum is about whether the swarm can decide anything.
func (j *judgement) quorum() {
	if r := j.response; j.present < r.Quorum {
		j.problem(skep.Problem_CRITICAL,
			"the managers cannot agree on anything",
			fmt.Sprintf("%s reachable and %d are needed; nothing can be changed until then, and tasks go on as they are", ofVoters(j.present, r.Voters), r.Quorum),
			"start the managers that are missing; if they are lost for good, start one that is left with 'swarmd --force-new-cluster'")
	}
}

// reachability is about managers that are not there, or not with the others yet.
func (j *judgement) reachability() {
	severity := skep.Problem_WARNING
	if j.response.CanLose == 0 {
		severity = skep.Problem_CRITICAL
	}
	for _, m := range j.managers {
		switch behind := m.Behind; {
		case m.Reachability == skep.ManagerHealth_UNREACHABLE:
			what := fmt.Sprintf("manager %s is unreachable", m.name())
			if m.UnreachableSince != nil {
				what += " since " + m.UnreachableSince.AsTime().UTC().Format(time.RFC3339)
			}
			s := severity
			if m.Learner {
				s = skep.Problem_WARNING // it is not counted on
			}
			j.problem(s, what,
				fmt.Sprintf("the leader gets no answer from %s: swarmd does not run there, or the network between them is cut", m.Addr),
				fmt.Sprintf("start swarmd on %[1]s again; if it is lost for good: 'swarmctl node demote %[1]s', then 'swarmctl node rm --force %[1]s'", m.name()))
		case m.Learner && m.reachable():
			j.problem(skep.Problem_NOTE,
				fmt.Sprintf("manager %s does not vote yet", m.name()),
				"it is new and catches up with the others first"+entriesLeft(behind),
				"wait; it votes by itself once it has caught up")
		case !m.reachable():
			j.problem(skep.Problem_NOTE, fmt.Sprintf("it is not known whether manager %s is reachable", m.name()),
				"the leader has begun to lead just now", "ask again in a moment")
		case behind > lag:
			j.problem(skep.Problem_WARNING,
				fmt.Sprintf("manager %s is %d entries behind", m.name(), behind),
				"its disk or its network is slower than what the others write; until it has caught up it helps little if another is lost",
				fmt.Sprintf("look at the disk and the network of %s", m.name()))
		}
	}
	for _, name := range j.absent {
		j.problem(skep.Problem_NOTE,
			fmt.Sprintf("node %s is to be a manager and is none yet", name),
			"it has not got its new certificate, or has not joined the other managers with it",
			fmt.Sprintf("see 'swarmctl node inspect %s', and the log of swarmd there if it stays so", name))
	}
}

func entriesLeft(behind uint64) string {
	switch behind {
	case 0:
		return ""
	case 1:
		return ": 1 entry is left"
	}
	return fmt.Sprintf(": %d entries are left", behind)
}

// certificates is about those that end soon.
func (j *judgement) certificates() {
	for _, m := range j.managers {
		if m.certificate == nil {
			continue
		}
		validity := m.certificate.NotAfter.Sub(m.certificate.NotBefore)
		switch left := m.certificate.NotAfter.Sub(j.now); {
		case left <= 0:
			j.problem(skep.Problem_CRITICAL,
				fmt.Sprintf("the certificate of manager %s has expired", m.name()),
				"the others refuse it with that, and it could not renew it in time",
				fmt.Sprintf("check the clock of %[1]s and restart swarmd there: it asks for a new one", m.name()))
		case float64(left) < lateRenewal*float64(validity):
			j.problem(skep.Problem_WARNING,
				fmt.Sprintf("the certificate of manager %s expires in %s", m.name(), span(left)),
				"it should have renewed it by now; after that the others refuse it",
				fmt.Sprintf("see the log of swarmd on %s for why it could not", m.name()))
		}
	}
	if j.root == nil {
		return
	}
	switch left := j.root.NotAfter.Sub(j.now); {
	case left <= 0:
		j.problem(skep.Problem_CRITICAL, "the root certificate of the swarm has expired",
			"no node trusts another with it", "check the clocks of the managers")
	case left < lateRoot && j.rotation == nil:
		j.problem(skep.Problem_WARNING, "the root certificate of the swarm expires in "+span(left),
			"no node trusts another once it has", "replace it: 'swarmctl cluster rotate-ca'")
	}
}

// places is about managers that one event takes away together.
func (j *judgement) places() {
	hosts := map[string][]string{}
	var names []string
	for _, m := range j.managers {
		host, _, err := net.SplitHostPort(m.Addr)
		if err != nil || m.Learner || !m.reachable() {
			continue
		}
		if hosts[host] == nil {
			names = append(names, host)
		}
		hosts[host] = append(hosts[host], m.name())
	}
	slices.Sort(names)
	for _, host := range names {
		there := hosts[host]
		if len(there) < 2 {
			continue
		}
		severity, why := skep.Problem_NOTE, "they are lost together; the others go on without them"
		if len(there) > int(j.response.CanLose) {
			severity, why = skep.Problem_WARNING, fmt.Sprintf("they are lost together, and the swarm can lose %d", j.response.CanLose)
		}
		j.problem(severity, fmt.Sprintf("managers %s share the host %s", and(there), host), why,
			"run each manager on a machine of its own")
	}
}

// progress is about what goes on and should end.
func (j *judgement) progress() {
	versions := map[string][]string{}
	var known []string
	for _, m := range j.managers {
		if m.Version == "" {
			continue
		}
		if versions[m.Version] == nil {
			known = append(known, m.Version)
		}
		versions[m.Version] = append(versions[m.Version], m.name())
	}
	if len(known) > 1 {
		slices.Sort(known)
		for i, v := range known {
			known[i] = v + " on " + and(versions[v])
		}
		j.problem(skep.Problem_NOTE, "the managers run different versions", strings.Join(known, ", "),
			"finish the upgrade, one manager after another")
	}
	if j.rotation == nil {
		return
	}
	for _, n := range j.rotation.Waiting {
		if n.Reason == "" {
			continue
		}
		name := cmp.Or(n.Hostname, n.NodeId)
		j.problem(skep.Problem_WARNING,
			fmt.Sprintf("the new root certificate waits for node %s", name), n.Reason,
			fmt.Sprintf("put that right on %[1]s, or remove it from the swarm: 'swarmctl node rm --force %[1]s'", name))
	}
}

// size is about how many managers there are.
func (j *judgement) size() {
	const third = "have three: promote nodes with 'swarmctl node promote', or join machines with what 'swarmctl cluster join-token manager' prints"
	switch voters := j.response.Voters; {
	case slices.ContainsFunc(j.managers, func(m *manager) bool { return m.Learner && m.reachable() }):
		// Their number is about to be another.
	case voters == 1:
		j.problem(skep.Problem_NOTE, "there is one manager",
			"when it is lost, the swarm cannot be changed any more; tasks go on", third)
	case voters == 2:
		j.problem(skep.Problem_WARNING, "two managers are worse than one",
			"both are needed, so that the swarm stands still when either is lost", third)
	case voters%2 == 0:
		j.problem(skep.Problem_NOTE, fmt.Sprintf("%d managers can lose no more than %d can", voters, voters-1),
			"an even number adds nothing: a majority needs one more", "promote one more node, or demote one")
	case voters > manyVoters:
		j.problem(skep.Problem_NOTE, fmt.Sprintf("there are %d managers", voters),
			fmt.Sprintf("each change waits for %d of them; more than seven make the swarm slower, not safer", j.response.Quorum), "demote some")
	}
}

// conclude says it in one sentence.
func (j *judgement) conclude() {
	r := j.response
	voters, missing := r.Voters, r.Voters-j.present
	switch {
	case voters == 0:
		r.State, r.Verdict = skep.ClusterHealthResponse_UNKNOWN, "It is not known which managers there are."
		return
	case j.present < r.Quorum:
		r.State = skep.ClusterHealthResponse_NO_QUORUM
		r.Verdict = fmt.Sprintf("The swarm cannot be changed: %s reachable and %d are needed.", ofVoters(j.present, voters), r.Quorum)
		return
	case voters == 1:
		r.Verdict = "The swarm cannot lose its only manager."
	case voters == 2:
		r.Verdict = "The swarm cannot lose a manager: 2 managers need both."
	case r.CanLose == 0:
		r.Verdict = fmt.Sprintf("The swarm cannot lose another manager: %s reachable and %d are needed.", ofVoters(j.present, voters), r.Quorum)
	case missing > 0:
		r.Verdict = fmt.Sprintf("The swarm can lose %d more: %s reachable and %d are needed.", r.CanLose, ofVoters(j.present, voters), r.Quorum)
	default:
		r.Verdict = fmt.Sprintf("The swarm can lose %d of its %d managers.", r.CanLose, voters)
	}
	switch {
	case voters > 2 && r.CanLose == 0:
		r.State = skep.ClusterHealthResponse_CRITICAL
	case len(r.Problems) > 0 && r.Problems[0].Severity >= skep.Problem_WARNING:
		r.State = skep.ClusterHealthResponse_WARNING
	default:
		r.State = skep.ClusterHealthResponse_HEALTHY
	}
}

// ofVoters is "2 of 3 managers are".
func ofVoters(n, all uint32) string {
	verb := "are"
	if n == 1 {
		verb = "is"
	}
	return fmt.Sprintf("%d of %d managers %s", n, all, verb)
}

// and joins names as a sentence does.
func and(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// span says a time in one unit, rounded down.
func span(d time.Duration) string {
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		if n := int(d / unit.size); n == 1 {
			return "1 " + unit.name
		} else if n > 1 {
			return fmt.Sprintf("%d %ss", n, unit.name)
		}
	}
	return "less than a minute"
}
