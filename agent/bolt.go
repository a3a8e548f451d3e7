package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"google.golang.org/protobuf/proto"

	"skep/api"
)

// Bolt is a Storage in a bbolt file: bucket v1/tasks/ID with the keys data,
// status and, while the task is assigned, assigned.
type Bolt struct {
	db *bbolt.DB
}

// OpenBolt opens the file, and makes it and its directory if need be. It fails
// when another process has it open.
func OpenBolt(path string) (*Bolt, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the agent's tasks: %w", err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:        time.Second,
		NoFreelistSync: true, // rebuilt at open; the file is small
		FreelistType:   bbolt.FreelistMapType,
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("open the agent's tasks: %s is in use by another process; stop that one, or choose another state directory", path)
	case err != nil:
		return nil, fmt.Errorf("open the agent's tasks in %s: %w; if the file is damaged, move it away: the tasks of this machine are then stopped and begun anew", path, err)
	}
	return &Bolt{db: db}, nil
}

// Close closes the file.
func (b *Bolt) Close() error { return b.db.Close() }

// The layout is that of existing worker directories.
func rootBucket() []byte  { return []byte("v1") }
func tasksBucket() []byte { return []byte("tasks") }
func dataKey() []byte     { return []byte("data") }
func statusKey() []byte   { return []byte("status") }
func assignedKey() []byte { return []byte("assigned") }

// Load returns the records in order of their IDs.
func (b *Bolt) Load() ([]Record, error) {
	var records []Record
	err := b.db.View(func(tx *bbolt.Tx) error {
		root := tx.Bucket(rootBucket())
		if root == nil || root.Bucket(tasksBucket()) == nil {
			return nil
		}
		tasks := root.Bucket(tasksBucket())
		return tasks.ForEachBucket(func(id []byte) error {
			bucket := tasks.Bucket(id)
			record := Record{ID: string(id), Gone: bucket.Get(assignedKey()) == nil}
			if data := bucket.Get(dataKey()); data != nil {
				record.Task = &api.Task{}
				if err := proto.Unmarshal(data, record.Task); err != nil {
					return fmt.Errorf("task %s: %w", id, err)
				}
			}
			if data := bucket.Get(statusKey()); data != nil {
				record.Status = &api.TaskStatus{}
				if err := proto.Unmarshal(data, record.Status); err != nil {
					return fmt.Errorf("status of task %s: %w", id, err)
				}
			}
			records = append(records, record)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("load the agent's tasks from %s: %w", b.db.Path(), err)
	}
	return records, nil
}

// Write is one transaction with one fsync.
func (b *Bolt) Write(changed []Record, deleted []string) error {
	err := b.db.Update(func(tx *bbolt.Tx) error {
		root, err := tx.CreateBucketIfNotExists(rootBucket())
		if err != nil {
			return err
		}
		tasks, err := root.CreateBucketIfNotExists(tasksBucket())
		if err != nil {
			return err
		}
		for _, record := range changed {
			if err := record.write(tasks); err != nil {
				return fmt.Errorf("task %s: %w", record.ID, err)
			}
		}
		for _, id := range deleted {
			if err := tasks.DeleteBucket([]byte(id)); err != nil && !errors.Is(err, bolterrors.ErrBucketNotFound) {
				return fmt.Errorf("task %s: %w", id, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store the agent's tasks in %s: %w", b.db.Path(), err)
	}
	return nil
}

func (r Record) write(tasks *bbolt.Bucket) error {
	bucket, err := tasks.CreateBucketIfNotExists([]byte(r.ID))
	if err != nil {
		return err
	}
	if r.Task != nil {
		if err := put(bucket, dataKey(), r.Task); err != nil {
			return err
		}
	}
	if r.Status != nil {
		if err := put(bucket, statusKey(), r.Status); err != nil {
			return err
		}
	}
	if r.Gone {
		return bucket.Delete(assignedKey())
	}
	return bucket.Put(assignedKey(), []byte{1})
}

func put(bucket *bbolt.Bucket, key []byte, m proto.Message) error {
	data, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	return bucket.Put(key, data)
}
