package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/raft/offline"
	"skep/raft/snap"
	"skep/raft/wal"
	"skep/store"
)

// printer prints tables for people, or lines of JSON for programs.
type printer struct {
	out   io.Writer
	json  bool
	table *tabwriter.Writer
	err   error // the first
}

func newPrinter(out io.Writer, asJSON bool) *printer {
	return &printer{out: out, json: asJSON, table: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
}

// flush prints what is left, and returns the first error of all.
func (p *printer) flush() error { return errors.Join(p.err, p.table.Flush()) }

// row prints a row of a table, and nothing to a program.
func (p *printer) row(cells ...string) {
	if p.json {
		return
	}
	for i, cell := range cells {
		cells[i] = strings.Join(strings.Fields(cell), " ") // whatever is in it
	}
	p.note(fmt.Fprintln(p.table, strings.Join(cells, "\t")))
}

// line prints a line of JSON, and nothing to a person.
func (p *printer) line(value any) {
	if !p.json {
		return
	}
	text, err := json.Marshal(value)
	if err != nil {
		p.note(0, err)
		return
	}
	p.note(fmt.Fprintf(p.out, "%s\n", text))
}

func (p *printer) note(_ int, err error) {
	if p.err == nil {
		p.err = err
	}
}

// message is m in JSON.
func (p *printer) message(m proto.Message) json.RawMessage {
	if !p.json {
		return nil
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	p.note(0, err)
	return text
}

// jsonEntry is an entry of the log as programs see it. Raft ids are in hexadecimal, as in logs.
type jsonEntry struct {
	Index   uint64          `json:"index"`
	Term    uint64          `json:"term"`
	Type    string          `json:"type"`
	Bytes   int             `json:"bytes"`
	Change  string          `json:"change,omitempty"`
	RaftID  string          `json:"raft_id,omitempty"`
	Member  *jsonMember     `json:"member,omitempty"`
	Request json.RawMessage `json:"request,omitempty"`
	Error   string          `json:"error,omitempty"`
}

type jsonMember struct {
	RaftID string `json:"raft_id"`
	NodeID string `json:"node_id"`
	Addr   string `json:"addr"`
}

func member(m *api.RaftMember) jsonMember {
	return jsonMember{hex(m.GetRaftId()), m.GetNodeId(), m.GetAddr()}
}

func hex(id uint64) string { return strconv.FormatUint(id, 16) }

func (p *printer) entry(e *raftpb.Entry, said offline.Entry, bad error) {
	line := jsonEntry{Index: e.GetIndex(), Term: e.GetTerm(), Bytes: len(e.GetData())}
	var what []string
	switch {
	case bad != nil:
		line.Type, line.Error = "unreadable", bad.Error()
		what = []string{line.Error}
	case said.Change != nil:
		line.Type, line.RaftID = "membership", hex(said.Change.GetNodeId())
		line.Change = changeName(said.Change.GetType())
		what = []string{line.Change + " " + line.RaftID}
		if said.Member.GetNodeId() != "" {
			m := member(said.Member)
			line.Member = &m
			what[0] += " (node " + m.NodeID + ", " + m.Addr + ")"
		}
	case said.Request != nil:
		line.Type, line.Request = "write", p.message(said.Request)
		for _, a := range said.Request.GetAction() {
			what = append(what, action(a))
		}
	default:
		line.Type = "empty"
		what = []string{"the beginning of a leader's term"}
	}
	p.line(line)
	p.row(strconv.FormatUint(line.Index, 10), strconv.FormatUint(line.Term, 10), line.Type, strconv.Itoa(line.Bytes), strings.Join(what, "; "))
}

func changeName(t raftpb.ConfChangeType) string {
	switch t {
	case raftpb.ConfChangeAddNode:
		return "add member"
	case raftpb.ConfChangeAddLearnerNode:
		return "add learner"
	case raftpb.ConfChangeRemoveNode:
		return "remove member"
	case raftpb.ConfChangeUpdateNode:
		return "update member"
	}
	return t.String()
}

func action(a *api.StoreAction) string {
	verb := strings.ToLower(strings.TrimPrefix(a.GetAction().String(), "STORE_ACTION_"))
	o := offline.Target(a)
	if o == nil {
		return verb + " something that this release does not know"
	}
	return strings.TrimSpace(strings.Join([]string{verb, store.KindOf(o).String(), o.GetId(), name(o), state(o)}, " "))
}

// name returns what people call an object, if it says so.
func name(o store.Object) string {
	switch o := o.(type) {
	case *api.Task:
		if o.GetServiceAnnotations().GetName() == "" {
			return ""
		}
		if o.GetSlot() == 0 {
			return o.GetServiceAnnotations().GetName() + "." + o.GetNodeId()
		}
		return fmt.Sprintf("%s.%d", o.GetServiceAnnotations().GetName(), o.GetSlot())
	case *api.Node:
		return o.GetDescription().GetHostname()
	}
	return store.NameOf(o)
}

// state returns what an object is doing, if it does anything.
func state(o store.Object) string {
	switch o := o.(type) {
	case *api.Task:
		if o.GetStatus() == nil {
			return ""
		}
		return fmt.Sprintf("%s, wanted %s", o.GetStatus().GetState(), o.GetDesiredState())
	case *api.Node:
		if o.GetStatus() == nil {
			return ""
		}
		return fmt.Sprintf("%s %s", o.GetRole(), o.GetStatus().GetState())
	}
	return ""
}

func (p *printer) snapshot(m snap.Meta) {
	line := struct {
		Index   uint64       `json:"index"`
		Term    uint64       `json:"term"`
		RaftID  string       `json:"raft_id"`
		NodeID  string       `json:"node_id"`
		Members []jsonMember `json:"members"`
		Removed []string     `json:"removed,omitempty"`
	}{Index: m.Index, Term: m.Term, RaftID: hex(m.ID), NodeID: m.Owner}
	p.row("Entry:", fmt.Sprintf("%d of term %d", m.Index, m.Term))
	p.row("Written by:", fmt.Sprintf("%x (node %s)", m.ID, m.Owner))
	for _, o := range m.Members {
		one := member(o)
		line.Members = append(line.Members, one)
		p.row("Member:", fmt.Sprintf("%s (node %s, %s)", one.RaftID, one.NodeID, one.Addr))
	}
	for _, id := range m.Removed {
		line.Removed = append(line.Removed, hex(id))
	}
	if len(line.Removed) > 0 {
		p.row("Removed:", strings.Join(line.Removed, ", "))
	}
	p.row()
	p.line(map[string]any{"snapshot": line})
}

func (p *printer) object(o store.Object) {
	kind := store.KindOf(o).String()
	p.line(struct {
		Kind   string          `json:"kind"`
		Object json.RawMessage `json:"object"`
	}{kind, p.message(o)})
	p.row(kind, o.GetId(), name(o), state(o))
}

// report is what a check found.
type report struct {
	text   string
	notes  []string
	fields map[string]any
}

func (p *printer) verified(r report, err error) {
	fields := map[string]any{"ok": err == nil}
	for name, value := range r.fields {
		fields[name] = value
	}
	if len(r.notes) > 0 {
		fields["notes"] = r.notes
	}
	if err != nil {
		fields["error"] = err.Error()
		if file, offset, ok := place(err); ok {
			fields["file"], fields["offset"] = file, offset
		}
	} else if !p.json {
		p.note(fmt.Fprintf(p.out, "ok: %s\n", r.text))
	}
	p.line(fields)
	for _, note := range r.notes {
		if !p.json {
			p.note(fmt.Fprintf(p.out, "note: %s\n", note))
		}
	}
}

func logReport(found *wal.Inspection) report {
	r := report{fields: map[string]any{"segments": len(found.Segments)}}
	entries := "no entries"
	if n := len(found.Entries); n > 0 {
		first, last := found.Entries[0].GetIndex(), found.Entries[n-1].GetIndex()
		entries = fmt.Sprintf("entries %d–%d", first, last)
		r.fields["first"], r.fields["last"] = first, last
	}
	r.text = fmt.Sprintf("%s, %s, term %d, committed up to %d, of member %x (node %s)",
		count(len(found.Segments), "segment"), entries, found.State.Term, found.State.Commit, found.ID, found.Owner)
	r.fields["term"], r.fields["commit"] = found.State.Term, found.State.Commit
	r.fields["raft_id"], r.fields["node_id"] = hex(found.ID), found.Owner
	if found.Behind > 0 {
		r.notes = append(r.notes, fmt.Sprintf("the log has not got to the snapshot at %d, which came from another manager: the next start begins it anew there, nothing is missing", found.Behind))
		r.fields["behind"] = found.Behind
	}
	old := 0
	for _, s := range found.Segments {
		if s.OldKey {
			old++
		}
	}
	if old > 0 {
		r.notes = append(r.notes, count(old, "segment")+" sealed with the key that is being replaced")
	}
	if found.Cut != nil {
		r.notes = append(r.notes, torn(found.Cut))
	}
	for _, file := range found.Unused {
		r.notes = append(r.notes, file+" is no part of the log")
	}
	return r
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// torn says what a crash left.
func torn(cut *wal.Cut) string {
	return fmt.Sprintf("%s ends, from offset %d on, with a write that was not finished and was never acknowledged: the next start cuts it off", cut.File, cut.Offset)
}

func snapshotReport(file string, index uint64, m snap.Meta, s *store.Snapshot) report {
	r := report{fields: map[string]any{"file": file, "index": index}}
	if s == nil {
		return r
	}
	objects := 0
	for range offline.Objects(s) {
		objects++
	}
	r.fields["term"], r.fields["members"], r.fields["objects"] = m.Term, len(m.Members), objects
	r.text = fmt.Sprintf("%s, entry %d of term %d, %s, %s", file, m.Index, m.Term, count(len(m.Members), "member"), count(objects, "object"))
	return r
}
