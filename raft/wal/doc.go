// Package wal is the raft log on disk.
//
// The log is a row of segments, files named after their number (16 hexadecimal
// digits, ".log"). A segment is a header and frames as package seal makes them. A frame's tag
// is twice the number of its batch, plus one in the last frame of the batch; batches
// are numbered through all segments, and one batch is what one [Log.Flush] wrote with
// one sync. A frame's content is a row of items, integers as uvarints:
//
//	1 origin      number of the segment; end offset and last batch of the one before
//	              it; last index and term, hard state, raft id, owner's node id
//	2 hard state  term, vote, commit
//	3 entry       index, term, type, length, data
//
// An origin is the first item of each segment and nowhere else. It makes the first
// segment that is kept self-sufficient, and it chains segments: one that is missing
// or lost its end is noticed.
//
// Promises:
//
//   - When Flush returned nil, what was appended before it survives any crash.
//   - A batch is recovered whole or not at all, and a later one never without it.
//   - What a crash can leave of the batch that was being written is cut off at
//     the next [Open]. Anything else that is not as it was written makes Open fail with a
//     [seal.DamageError]: a hole before a later batch, altered bytes even in the last
//     one, a missing segment, another key, another kind of file, a newer format.
//   - After an error of write or sync the log takes nothing more: nobody knows what is
//     on disk. The next Open, in this process or another, finds out. Lack of space is
//     noticed before anything of a batch is written, or the next segment has its name: such an
//     error is [ErrFull], the log is as before, and Flush may be called again.
//   - After [Log.Rekey] nothing is sealed with another key than the current one of
//     Config.Keys. Segments are opened with whichever key of the ring fits.
//   - A segment is never written to after its process ended: Open begins a new one, with a
//     key of its own, so that two futures of one backup do not share a nonce.
//
// Segments are written ahead with zeros, a megabyte at a time, so that a sync need not also
// commit a new size or new extents, and so that a full disk is noticed before
// a frame is written. An unfinished frame therefore shows: it lacks its end or whole sectors,
// which read as zeros, where an altered one does not.
package wal
