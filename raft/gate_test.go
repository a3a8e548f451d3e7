package raft

import (
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"go.etcd.io/raft/v3/raftpb"

	"skep/api"
	"skep/api/skep"
	"skep/model"
)

// TestWhoHasForgottenAndWhoMayVote goes through testdata/fence: what a member's disk had at the start, what it
// said since, and what others tell it.
func TestWhoHasForgottenAndWhoMayVote(t *testing.T) {
	t.Parallel()
	datadriven.RunTest(t, "testdata/fence.txt", func(t *testing.T, d *datadriven.TestData) string {
		t.Helper()
		l, was := aLoop(t, d), false
		var out []string
		for _, line := range strings.Split(d.Input, "\n") {
			err := act(t, l, strings.Fields(line))
			switch {
			case model.KindOf(err) == model.Precondition && strings.Contains(err.Error(), "older than what it has acknowledged"):
				return line + ": it ends\n"
			case err != nil:
				t.Fatal(err)
			case l.gate.open != was:
				was = l.gate.open
				out = append(out, line+": it may vote")
			}
		}
		if len(out) == 0 {
			return "it may not vote\n"
		}
		return strings.Join(out, "\n") + "\n"
	})
}

// aLoop is the loop of member 1, as the directive says: the term and the last index of its disk, the
// commit index there, who votes, and who else is a member or was one.
func aLoop(t *testing.T, d *datadriven.TestData) *loop {
	t.Helper()
	group := Native
	if d.HasArg("mixed") {
		group = Mixed
	}
	n := &Node{cfg: Config{Group: group, ElectionTicks: 10}, id: 1}
	l := &loop{Node: n, commit: uint64(number(t, d, "commit"))}
	l.term, l.last = uint64(number(t, d, "term")), uint64(number(t, d, "last"))
	m := &membership{conf: &raftpb.ConfState{Voters: list(t, d, "voters")}, removed: list(t, d, "removed")}
	for _, id := range append(list(t, d, "voters"), list(t, d, "others")...) {
		m.members = append(m.members, &api.RaftMember{RaftId: id})
	}
	n.members.Store(m)
	n.applied.Store(l.commit)
	var err error
	if l.gate, err = l.newGate(); err != nil {
		t.Fatal(err)
	}
	if d.HasArg("replaying") {
		n.members.Store(&membership{conf: &raftpb.ConfState{}})
		n.applied.Store(0)
	}
	return l
}

func number(t *testing.T, d *datadriven.TestData, key string) int {
	t.Helper()
	n := 0
	d.MaybeScanArgs(t, key, &n)
	return n
}

func list(t *testing.T, d *datadriven.TestData, key string) []uint64 {
	t.Helper()
	arg, ok := d.Arg(key)
	if !ok {
		return nil
	}
	var ids []uint64
	for _, v := range arg.Vals {
		ids = append(ids, parse(t, v))
	}
	return ids
}

func parse(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func parseMark(t *testing.T, s string) mark {
	t.Helper()
	term, index, _ := strings.Cut(s, "/")
	return mark{parse(t, term), parse(t, index)}
}

// act does what a line says: "starts", "acknowledges 5/7", "votes 6", "hears-of-term 9", "added 4",
// "2 tells" something that is known of member 1, or nothing, "2 leads 5/7", with its term and commit index.
func act(t *testing.T, l *loop, words []string) error {
	t.Helper()
	switch words[0] {
	case "starts":
		return l.guard()
	case "acknowledges":
		said := parseMark(t, words[1])
		l.gate.acknowledging([]*raftpb.Message{{Type: raftpb.MsgAppResp.Enum(), Term: &said.term, Index: &said.index}})
	case "votes":
		l.gate.acknowledging([]*raftpb.Message{{Type: raftpb.MsgVoteResp.Enum(), Term: new(parse(t, words[1]))}})
	case "refuses":
		l.gate.acknowledging([]*raftpb.Message{{Type: raftpb.MsgAppResp.Enum(), Term: new(parse(t, words[1])), Index: new(uint64(999)), Reject: new(true)}})
	case "hears-of-term":
		l.term = parse(t, words[1])
	case "added":
		m := *l.members.Load()
		m.members = append(m.members[:len(m.members):len(m.members)], &api.RaftMember{RaftId: parse(t, words[1])})
		l.members.Store(&m)
		l.gate.news = true
		return l.guard()
	default:
		return actOther(t, l, parse(t, words[0]), words[1:])
	}
	return nil
}

func actOther(t *testing.T, l *loop, from uint64, words []string) error {
	t.Helper()
	switch words[0] {
	case "tells":
		var had []*skep.Had
		if len(words) > 1 {
			is := parseMark(t, words[1])
			had = []*skep.Had{{Member: 7, Term: 99, Index: 99}, {Member: 1, Term: is.term, Index: is.index}, {}}
		}
		return l.told(from, had)
	case "leads":
		is := parseMark(t, words[1])
		return l.amnesia(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: &from, Term: &is.term, Commit: &is.index})
	default:
		t.Fatalf("%q does nothing", words)
		return nil
	}
}

func TestOnlyWhatMembersSayOfOthersIsRemembered(t *testing.T) {
	t.Parallel()
	n := &Node{id: 1}
	n.members.Store(&membership{conf: &raftpb.ConfState{Voters: []uint64{1, 2, 3}}, members: []*api.RaftMember{{RaftId: 1}, {RaftId: 2}, {RaftId: 3}}, removed: []uint64{4}})
	l := &loop{Node: n, term: 9, last: 9}
	var err error
	if l.gate, err = l.newGate(); err != nil {
		t.Fatal(err)
	}
	for _, said := range []struct {
		by  uint64
		had []*skep.Had
	}{
		{2, []*skep.Had{{Member: 3, Term: 5, Index: 7}, {Member: 4, Term: 5, Index: 7}, {Member: 2, Term: 5, Index: 6}, {Member: 1, Term: 1, Index: 1}}},
		{3, []*skep.Had{{Member: 3, Term: 4, Index: 99}, {Member: 2, Term: 6, Index: 1}, {}}}, // of before, and of a later term
		{4, []*skep.Had{{Member: 3, Term: 50, Index: 7}}},                                     // it was removed
		{8, []*skep.Had{{Member: 2, Term: 50, Index: 7}}},                                     // it is no member
	} {
		if err := l.told(said.by, said.had); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, h := range n.Had() {
		got = append(got, strings.Join([]string{strconv.FormatUint(h.GetMember(), 10), strconv.FormatUint(h.GetTerm(), 10), strconv.FormatUint(h.GetIndex(), 10)}, "/"))
	}
	if want := "2/6/1 3/5/7"; strings.Join(got, " ") != want {
		t.Errorf("it remembers %q, want %q", got, want)
	}
	n.had.forget([]uint64{2})
	if len(n.Had()) != 1 {
		t.Error("it remembers a member that was removed")
	}
	for id := range uint64(2 * maxHad) {
		n.had.learn(id+100, mark{1, 1})
	}
	if got := len(n.Had()); got > maxHad {
		t.Errorf("it remembers %d members", got)
	}
}
