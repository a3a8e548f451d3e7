package dispatcher

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/model"
	"skep/store"
)

// maxText is how much of a message or an error of a task is kept, in bytes.
const maxText = 4 << 10

type statusUpdate = api.UpdateTaskStatusRequest_TaskStatusUpdate

// UpdateTaskStatus takes what the caller's node reports of its tasks, and
// answers when that is committed. Tasks of other nodes are refused, with an
// error of kind Denied after the rest is done; unknown tasks, and statuses that
// are older than or equal to what is known, are ignored.
func (d *Dispatcher) UpdateTaskStatus(ctx context.Context, request *api.UpdateTaskStatusRequest) (*api.UpdateTaskStatusResponse, error) {
	s, err := d.find(ctx, request.GetSessionId())
	if err != nil {
		return nil, err
	}
	var refused refusals
	for some := range slices.Chunk(request.GetUpdates(), chunk) {
		if err := d.writeStatuses(ctx, s.node, some, &refused); err != nil {
			return nil, err
		}
	}
	if err := refused.err(); err != nil {
		return nil, err
	}
	return &api.UpdateTaskStatusResponse{}, nil
}

// refusals are the items of a request that were not carried out.
type refusals struct {
	first error
	more  int
}

func (r *refusals) add(err error) {
	if r.first == nil {
		r.first = err
	} else {
		r.more++
	}
}

func (r *refusals) err() error {
	if r.more > 0 {
		return fmt.Errorf("%w, and %d more", r.first, r.more)
	}
	return r.first
}

// writeStatuses is one transaction; if that is too large it is two, down to the
// one item that is too large by itself, which is refused.
func (d *Dispatcher) writeStatuses(ctx context.Context, node string, updates []*statusUpdate, refused *refusals) error {
	var denied refusals
	var ran []*api.Task
	err := d.store.Update(ctx, func(tx *store.Tx) error {
		for _, update := range updates {
			old, ok := tx.Tasks.Get(update.GetTaskId())
			if !ok || update.GetStatus() == nil {
				continue
			}
			if old.GetNodeId() != node {
				denied.add(model.Errorf(model.Denied, "task %s is not one of node %s", old.GetId(), node))
				continue
			}
			status := d.accept(tx, old, update.GetStatus())
			if status == nil {
				continue
			}
			task := model.Shallow(old)
			task.Status = status
			if err := tx.Update(task); err != nil {
				return err
			}
			if status.GetState() == api.TaskState_RUNNING && old.GetStatus().GetState() < api.TaskState_RUNNING {
				ran = append(ran, task)
			}
		}
		return nil
	})
	if model.KindOf(err) == model.Exhausted {
		if len(updates) == 1 {
			refused.add(err)
			return nil
		}
		half := len(updates) / 2
		if err := d.writeStatuses(ctx, node, updates[:half], refused); err != nil {
			return err
		}
		return d.writeStatuses(ctx, node, updates[half:], refused)
	}
	if denied.first != nil {
		refused.add(denied.err())
	}
	if err != nil {
		return err
	}
	for _, task := range ran {
		d.delay.Observe(task.GetStatus().GetAppliedAt().AsTime().Sub(task.GetMeta().GetCreatedAt().AsTime()).Seconds())
	}
	return nil
}

// accept returns the status as it is to be stored, nil for one that is not: the
// state never goes back, and only those states are taken that a node can report
// of a task that is assigned to it.
func (d *Dispatcher) accept(tx *store.Tx, task *api.Task, reported *api.TaskStatus) *api.TaskStatus {
	was, state := task.GetStatus(), reported.GetState()
	if _, known := api.TaskState_name[int32(state)]; !known || state < api.TaskState_ACCEPTED || state > api.TaskState_REJECTED {
		return nil
	}
	if was.GetState() < api.TaskState_ASSIGNED || state < was.GetState() {
		return nil
	}
	status := model.Shallow(reported)
	status.Message, status.Err = clip(status.GetMessage()), clip(status.GetErr())
	if status.GetTimestamp() != nil && !status.GetTimestamp().IsValid() {
		status.Timestamp = nil // nobody could print it
	}
	// Who applied it, and when, is ours to say and makes no difference.
	status.AppliedBy, status.AppliedAt = was.GetAppliedBy(), was.GetAppliedAt()
	if proto.Equal(status, was) {
		return nil
	}
	status.AppliedBy, status.AppliedAt = d.cfg.NodeID, timestamppb.New(tx.Now())
	return status
}

// clip keeps the beginning of a text that is too long.
func clip(text string) string {
	if len(text) <= maxText {
		return text
	}
	cut := maxText
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return strings.Clone(text[:cut]) + "…"
}

// UpdateVolumeStatus takes which volumes the caller's node has let go of, and
// answers when that is committed. Volumes that are unknown, or published nowhere,
// are ignored. Those that only other nodes have are refused, and the rest of the
// request is taken: the error, of kind Denied, names the first.
func (d *Dispatcher) UpdateVolumeStatus(ctx context.Context, request *api.UpdateVolumeStatusRequest) (*api.UpdateVolumeStatusResponse, error) {
	s, err := d.find(ctx, request.GetSessionId())
	if err != nil {
		return nil, err
	}
	var refused refusals
	for some := range slices.Chunk(request.GetUpdates(), chunk) {
		err := d.store.Update(ctx, func(tx *store.Tx) error {
			for _, update := range some {
				volume, ok := tx.Volumes.Get(update.GetId())
				if !ok || !update.GetUnpublished() || len(volume.GetPublishStatus()) == 0 {
					continue
				}
				if !publishedOn(volume, s.node) {
					refused.add(model.Errorf(model.Denied, "volume %s is not published on node %s", volume.GetId(), s.node))
					continue
				}
				if err := tx.Update(unpublished(volume, s.node)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if err := refused.err(); err != nil {
		return nil, err
	}
	return &api.UpdateVolumeStatusResponse{}, nil
}

func publishedOn(volume *api.Volume, node string) bool {
	return slices.ContainsFunc(volume.GetPublishStatus(), func(s *api.VolumePublishStatus) bool { return s.GetNodeId() == node })
}

// unpublished returns volume without its use on node.
func unpublished(volume *api.Volume, node string) *api.Volume {
	volume = model.Shallow(volume)
	volume.PublishStatus = slices.Clone(volume.GetPublishStatus())
	for i, status := range volume.GetPublishStatus() {
		if status.GetNodeId() == node {
			status = model.Shallow(status)
			status.State = api.VolumePublishStatus_PENDING_UNPUBLISH
			volume.PublishStatus[i] = status
		}
	}
	return volume
}
