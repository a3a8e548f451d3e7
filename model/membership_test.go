package model_test

import (
	"fmt"
	"strings"
	"testing"

	"skep/api"
	"skep/model"
)

func TestWhatADemotionLeavesIsCountedByWhoVotes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		members string // a capital letter votes, another learns; one with ! after it cannot be reached
		demoted string // who is being demoted already
		demote  string
		says    string // "": it may be
	}{
		"the second of two":                             {"AB", "", "B", ""},
		"the only one":                                  {"A", "", "A", "attempting to demote the last manager of the swarm: nobody would be left"},
		"one of three while another is away":            {"ABC!", "", "B", `demoting node "B" would leave 1 reachable managers of 2 (0 more are being demoted)`},
		"the one that is away":                          {"ABC!", "", "C", ""},
		"a learner that is away, of two":                {"Ac!d!", "", "c", ""},
		"the other one too":                             {"Ac!d!", "c", "d", ""},
		"one of three while a learner is there":         {"ABC!d", "", "B", `demoting node "B" would leave 1 reachable managers of 2 (0 more are being demoted)`},
		"one of two while two learners are away":        {"ABc!d!", "", "B", ""},
		"the only one that votes":                       {"Acd", "c", "A", "every other one is being demoted (1) or takes part in no decision yet (2); promote another node"},
		"the last of two, as the other is demoted":      {"AB", "B", "A", "every other one is being demoted (1) or takes part in no decision yet (0)"},
		"a learner while the voters have lost a member": {"AB!c", "", "c", "would leave 1 reachable managers of 2"},
		"one that is no member":                         {"AB", "", "X", `node "X" is not a member of raft`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var members []*api.RaftMember
			var learners []uint64
			for i, c := range test.members {
				if c == '!' {
					members[len(members)-1].Status = &api.RaftMemberStatus{Reachability: api.RaftMemberStatus_UNREACHABLE}
					continue
				}
				members = append(members, &api.RaftMember{RaftId: uint64(i + 1), NodeId: string(c)})
				if c >= 'a' {
					learners = append(learners, uint64(i+1))
				}
			}
			err := model.CheckDemotion(&api.Node{Id: test.demote, Role: api.NodeRole_MANAGER}, members, learners, len(members), func(id string) (api.NodeRole, bool) {
				if strings.Contains(test.demoted, id) {
					return api.NodeRole_WORKER, true
				}
				return api.NodeRole_MANAGER, true
			})
			if (err == nil) != (test.says == "") || !strings.Contains(fmt.Sprint(err), test.says) && err != nil {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
}
