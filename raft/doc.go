// Package raft makes a sequence of entries durable and the same on every manager,
// and hands them to a [StateMachine].
//
// It drives go.etcd.io/raft/v3's RawNode. What that library decides, is decided
// there; what is here is the log and snapshot files, the goroutines, and the order
// in which the state machine hears of things. Its promises:
//
//   - What [StateMachine.Apply] has seen is durable on a majority of the members,
//     and every member applies the same entries in the same order.
//   - Proposals made in one term commit in the order in which they were proposed,
//     without gaps from the first: if one is refused or lost, so are all after it.
//   - [StateMachine.Lead] is called when everything that was in the log at the
//     election is applied, [StateMachine.Follow] before anything of another leader is.
//   - A member that cannot write or sync its files stops: [Node.Run] returns an error
//     that names the file. Nothing is retried and then acknowledged, since after a
//     failed sync nobody knows what the disk holds. A snapshot for which there is no
//     space is no reason to stop: nothing rests on it, and the log stays as long.
//   - Everything on disk is encrypted and authenticated with a key derived from
//     [Config.Key]; the state machine never sees an altered byte. [Node.RotateKey]
//     replaces it while the member runs: at any moment the files open with the new key
//     and the one before it.
//
// A member of several proposes only while it leads. Every message to others leaves through the
// [Transport]; those that say that something is durable leave after the sync. A new member of a
// native group learns first and is made a voter by the leader once it has caught up; changes of
// membership are made one at a time, and one that would leave no reachable majority is
// refused. The id of a member that was removed never comes back, and [Node.Run] of one that learns that
// it was removed returns [ErrRemoved]. A leader hands over before it ends, and when its disk
// or state machine stalls for longer than an election takes.
//
// A member that came back with an older disk than it had stops: Run returns an error that says so
// as soon as one other member is reached that heard what it had, or was told by who led then. After
// a start a member of a native group neither votes nor stands for election before as many
// others as a majority needs beside it have told it what they know ([Node.Told]). What all have
// forgotten, since they were started again or are gone, is not known, nor what was said within the
// last tick to a leader that is gone.
//
// Run owns three goroutines. The raft loop steps RawNode and never waits for disk or
// network. The appender takes all that was handed to it while it was busy, writes it
// at once and syncs once: the slower the disk, the larger the batches, and an idle
// node adds no delay. What is proposed meanwhile gathers, so that each sync of the leader
// makes one message to each other member. The applier calls the state machine. Others
// run for as long as there is something to wait for: while a snapshot is written, one that
// nobody needs is dropped, or leadership is handed over.
//
// To write a snapshot, or to send one, takes at most half of the time, a few milliseconds in
// turn: writes go on meanwhile. To restore one is not held up like this, and a start takes
// no snapshot before its log is applied.
//
// On disk there is a directory "log" (package wal) and a directory "snapshots" (package
// snap), whose files are sealed by package seal. The last two snapshots are kept, and the log
// since the older one: if the newest turns out damaged, nothing is lost. More snapshots are kept
// and they are taken more often where [Node.Tune] says so.
//
// A member that lacks entries which the log of the leader has no more takes the leader's
// snapshot: the state goes to a file as it comes ([Node.ReceiveSnapshot]), which becomes a
// snapshot when all of it is durable and raft has taken it; then the log begins anew after it,
// and the state machine is restored. A crash at any point leaves one state or the other.
//
// Nothing here knows what the entries mean.
package raft
