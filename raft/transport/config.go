package transport

import (
	"errors"
	"hash/crc32"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"skep/api"
	"skep/api/skep"
	"skep/ca"
)

// TextRemoved is what a member that was removed from the group is told, with the code
// NotFound. Stock managers compare code and text.
const TextRemoved = "raft: member was removed from the cluster"

const (
	// MaxChunk is the largest piece of a snapshot's state, in bytes.
	MaxChunk = 1 << 20
	// maxMessage is the largest message that a manager takes, less what encoding may add.
	maxMessage = 4<<20 - 64<<10

	// batchBytes is how much is gathered into a batch. A heartbeat waits for one at most.
	batchBytes = 64 << 10
	// What a queue holds at most. raft has up to 64 MiB under way to a member; the queue
	// refers to entries which the log holds anyway.
	queueMessages = 8192
	queueBytes    = 64 << 20
	queueHashes   = 16
	// hadBytes is about what a Had takes in a batch.
	hadBytes = 32

	// defaultTimeout is about an election's time.
	defaultTimeout = 800 * time.Millisecond
	// allowance is what a slow link is assumed to carry, in bytes a second: one Mbit/s.
	allowance = 128 << 10
)

// Host is what the transport needs of the raft member that it works for. Its methods do not
// wait.
type Host interface {
	// ReportUnreachable says that messages to a member were lost.
	ReportUnreachable(id uint64)
	// ReportReachable says that a connection to a member stands, and again with each answer.
	ReportReachable(id uint64)
	// ReportSnapshot says what became of the snapshot of a MsgSnap.
	ReportSnapshot(id uint64, ok bool)
	// OpenSnapshot opens the snapshot at index, or a newer one. The transport closes it.
	OpenSnapshot(index uint64) (*Outgoing, error)
	// Removed says that a member answered that this one was removed from the group.
	Removed()
	// Had returns all that the member knows of what members had on their disks.
	Had() []*skep.Had
	// Told says what a member answers that members had, this one among them, when a
	// connection to it stands, and before ReportReachable does.
	Told(id uint64, had []*skep.Had)
}

// Outgoing is a snapshot to send.
type Outgoing struct {
	// ID names the snapshot's bytes: two with the same ID have the same.
	ID string
	// Meta is the index, the term and the configuration as of the snapshot.
	Meta *raftpb.SnapshotMetadata
	// Members and Removed are the group as of the snapshot.
	Members []*api.RaftMember
	Removed []uint64
	// Size is that of the state in bytes, 0 if it is not known.
	Size uint64
	// State is the state. It is read from where the receiver wants it.
	State io.ReadSeekCloser
}

// Header is what the receiver of a snapshot is told before the state comes.
type Header struct {
	// ID, Size, Members and Removed are those of the Outgoing at the other side.
	ID      string
	Size    uint64
	Members []*api.RaftMember
	Removed []uint64
}

// Config says what a Transport is made of.
type Config struct {
	// Self is the raft id of the member that sends, Host is that member. Both are required,
	// here or through Bind.
	Self uint64
	Host Host
	// Addr is where this member is reached, which it tells whomever it connects to. "": it
	// tells nobody.
	Addr string
	// Elsewhere returns more addresses at which managers may be, other than those that the
	// group's record has. Nil: there are none.
	Elsewhere func() []string
	// Dial returns a connection to the manager at an address, which is made when it is first
	// used, with this manager's certificate. Required.
	Dial func(addr string) (*grpc.ClientConn, error)
	// NodeID says who is at the other end of a connection. Default: whoever the
	// certificate names (ca.Peer).
	NodeID func(credentials.AuthInfo) string
	// StockSnapshot returns the state at index as a stock manager reads it: an
	// encoded api.Snapshot. Nil: snapshots cannot be sent to such managers.
	StockSnapshot func(index uint64) (io.ReadCloser, error)
	// Timeout is how long a connection may acknowledge nothing: about the time of an
	// election. Default: 800 ms.
	Timeout time.Duration
	// Log takes changes of what is reachable. Default: discarded.
	Log *slog.Logger
	// Metrics is where metrics are registered while Run runs. Default: none.
	Metrics prometheus.Registerer
}

func (c Config) withDefaults() (Config, error) {
	if c.Dial == nil {
		return c, errors.New("raft transport: Config.Dial is missing")
	}
	if c.NodeID == nil {
		c.NodeID = certified
	}
	if c.Elsewhere == nil {
		c.Elsewhere = func() []string { return nil }
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// certified returns the node id in the certificate of a peer, "" without one.
func certified(auth credentials.AuthInfo) string {
	p, _ := auth.(ca.Peer)
	return p.NodeID
}

// Sum continues a CRC-32C, which begins with 0.
func Sum(sum uint32, p []byte) uint32 {
	return crc32.Update(sum, crc32.MakeTable(crc32.Castagnoli), p)
}
