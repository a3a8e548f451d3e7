package process

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"time"
)

// A record of the log is a line of text, so that people can read the file:
//
//	2026-01-02T15:04:05.000000000Z stdout F what the process wrote
//
// F says that its line ended there, P that more of it follows in a later record
// of the same stream. It is the format that kubelet expects of container
// runtimes (CRI), so tools for it exist.
const recordTime = "2006-01-02T15:04:05.000000000Z"

// stdout and stderr are the names of the streams in a record.
const stdout, stderr = "stdout", "stderr"

// chunk is how much of a line one record holds at most.
const chunk = 16 << 10

// logWriter writes the records of both streams to log.1, log.2, …: a new file
// when one is full, and only the newest few are kept. Output never stops the
// process: what cannot be written is lost.
type logWriter struct {
	dir    directory
	limits logLimits

	mu     sync.Mutex
	file   *os.File
	number int
	size   int64
	buffer []byte
}

func (w *logWriter) write(stream string, now time.Time, data []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buffer = appendRecords(w.buffer[:0], stream, now, data)
	if w.file != nil && w.size+int64(len(w.buffer)) > w.limits.Size {
		_ = w.file.Close() // nothing is buffered in it
		w.file = nil
	}
	if w.file == nil && w.next() != nil {
		return
	}
	n, _ := w.file.Write(w.buffer)
	w.size += int64(n)
}

// next opens the next file and removes the oldest.
func (w *logWriter) next() error {
	file, err := os.OpenFile(w.dir.path(logName(w.number+1)), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	w.file, w.size = file, 0
	w.number++
	if err := os.Remove(w.dir.path(logName(w.number - w.limits.Files))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintln(os.Stderr, "remove the oldest log file:", err)
	}
	return nil
}

func (w *logWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file != nil {
		_ = w.file.Close()
		w.file = nil
	}
}

// copy writes what is read from a stream until it ends.
func (w *logWriter) copy(stream string, from io.Reader) {
	buffer := make([]byte, chunk)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			w.write(stream, time.Now(), buffer[:n])
		}
		if err != nil {
			return
		}
	}
}

func logName(number int) string { return logPrefix + strconv.Itoa(number) }

// appendRecords appends data, at most chunk bytes, as records.
func appendRecords(to []byte, stream string, now time.Time, data []byte) []byte {
	for len(data) > 0 {
		to = now.UTC().AppendFormat(to, recordTime)
		to = append(to, ' ')
		to = append(to, stream...)
		line, rest, ends := cutLine(data)
		if ends {
			to = append(to, " F "...)
		} else {
			to = append(to, " P "...)
		}
		to = append(to, line...)
		to = append(to, '\n')
		data = rest
	}
	return to
}
