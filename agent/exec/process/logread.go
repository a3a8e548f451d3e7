package process

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"skep/agent/exec"
	"skep/api"
)

func streamOf(name []byte) api.LogStream {
	switch string(name) {
	case stdout:
		return api.LogStream_LOG_STREAM_STDOUT
	case stderr:
		return api.LogStream_LOG_STREAM_STDERR
	}
	return api.LogStream_LOG_STREAM_UNKNOWN
}

func cutLine(data []byte) (line, rest []byte, ends bool) { return bytes.Cut(data, []byte{'\n'}) }

// parseRecord reads one line of a log, without its newline.
func parseRecord(line []byte) (exec.LogMessage, error) {
	fields := bytes.SplitN(line, []byte{' '}, 4)
	if len(fields) != 4 {
		return exec.LogMessage{}, fmt.Errorf("read a log record: %q", line)
	}
	at, err := time.Parse(recordTime, string(fields[0]))
	if err != nil {
		return exec.LogMessage{}, fmt.Errorf("read a log record: %w", err)
	}
	stream := streamOf(fields[1])
	if stream == api.LogStream_LOG_STREAM_UNKNOWN {
		return exec.LogMessage{}, fmt.Errorf("read a log record: stream %q", fields[1])
	}
	message := exec.LogMessage{Time: at, Stream: stream, Data: slices.Clone(fields[3])}
	if string(fields[2]) == "F" {
		message.Data = append(message.Data, '\n')
	}
	return message, nil
}

// logReader reads the records of a task from the oldest to the newest, across
// files. It may read while the parent writes.
type logReader struct {
	dir    directory
	number int
	file   *os.File
	lines  *bufio.Reader
	part   []byte // of a record that is not complete yet
	// full: there is a newer file, so this one does not grow any more. Its end is
	// the end once it is met after that was seen.
	full bool
}

// next returns io.EOF when there is no more at the moment.
func (r *logReader) next() (exec.LogMessage, error) {
	for {
		if r.file == nil {
			if err := r.advance(); err != nil {
				return exec.LogMessage{}, err
			}
		}
		line, err := r.lines.ReadSlice('\n')
		r.part = append(r.part, line...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == nil:
			message, err := parseRecord(bytes.TrimSuffix(r.part, []byte{'\n'}))
			r.part = r.part[:0]
			if err != nil {
				continue // torn by a full disk: the next one is whole
			}
			return message, nil
		case !errors.Is(err, io.EOF):
			return exec.LogMessage{}, err
		case r.full:
			r.close()
		default:
			newer, err := r.newer()
			if err != nil {
				return exec.LogMessage{}, err
			}
			if newer == 0 {
				return exec.LogMessage{}, io.EOF
			}
			r.full = true
		}
	}
}

// advance opens the oldest file that is newer than the one before.
func (r *logReader) advance() error {
	for {
		number, err := r.newer()
		if err != nil {
			return err
		}
		if number == 0 {
			return io.EOF
		}
		file, err := os.Open(r.dir.path(logName(number)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // rotated away in the meantime
		}
		if err != nil {
			return err
		}
		r.file, r.number, r.part, r.full = file, number, r.part[:0], false
		if r.lines == nil {
			r.lines = bufio.NewReaderSize(file, 2*chunk)
		} else {
			r.lines.Reset(file)
		}
		return nil
	}
}

// newer returns the number of the oldest file that is newer than the one that
// is read, 0 if there is none.
func (r *logReader) newer() (int, error) {
	entries, err := os.ReadDir(string(r.dir))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	oldest := 0
	for _, entry := range entries {
		text, ok := strings.CutPrefix(entry.Name(), logPrefix)
		number, err := strconv.Atoi(text)
		if ok && err == nil && number > r.number && (oldest == 0 || number < oldest) {
			oldest = number
		}
	}
	return oldest, nil
}

func (r *logReader) close() {
	if r.file != nil {
		_ = r.file.Close() // it was only read
		r.file = nil
	}
}

// readLogs yields the records of a task. done reports whether the task has
// ended, so that no more is written.
func readLogs(ctx context.Context, dir directory, options exec.LogOptions, done func() (bool, error)) iter.Seq2[exec.LogMessage, error] {
	return func(yield func(exec.LogMessage, error) bool) {
		if err := followLogs(ctx, dir, options, done, yield); err != nil && !errors.Is(err, errStopped) {
			yield(exec.LogMessage{}, err)
		}
	}
}

// errStopped says that nobody wants more.
var errStopped = errors.New("the reader stopped")

func followLogs(ctx context.Context, dir directory, options exec.LogOptions, done func() (bool, error), yield func(exec.LogMessage, error) bool) error {
	var changes *watcher
	if options.Follow {
		changes = watch(ctx, string(dir))
		defer changes.close()
	}
	reader := &logReader{dir: dir}
	defer reader.close()

	tail := &tail{limit: options.Tail}
	for {
		// Asked before the end of the file is seen: what is written before the task
		// has ended is read.
		over, err := done()
		if err != nil {
			return err
		}
		for {
			message, err := reader.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if !wanted(message, options) || tail.keep(message) {
				continue
			}
			if !yield(message, nil) {
				return errStopped
			}
		}
		for _, message := range tail.drain() {
			if !yield(message, nil) {
				return errStopped
			}
		}
		if over || !options.Follow {
			return nil
		}
		if err := changes.wait(ctx); err != nil {
			return err
		}
	}
}

func wanted(message exec.LogMessage, options exec.LogOptions) bool {
	if message.Time.Before(options.Since) {
		return false
	}
	return len(options.Streams) == 0 || slices.Contains(options.Streams, message.Stream)
}

// tail holds back the last messages of what is there at first.
type tail struct {
	limit    int
	messages []exec.LogMessage
	drained  bool
}

// keep reports whether message is held back, or dropped.
func (t *tail) keep(message exec.LogMessage) bool {
	if t.limit == 0 || t.drained {
		return false
	}
	if t.limit > 0 {
		t.messages = append(t.messages, message)
		if len(t.messages) >= 2*t.limit {
			t.messages = append(t.messages[:0], t.messages[len(t.messages)-t.limit:]...)
		}
	}
	return true
}

// drain returns what was held back; from now on nothing is.
func (t *tail) drain() []exec.LogMessage {
	messages := t.messages
	t.drained, t.messages = true, nil
	return messages[max(len(messages)-max(t.limit, 0), 0):]
}
