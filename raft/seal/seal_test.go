package seal_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"skep/raft/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var kind = seal.Kind{Name: "thing", Magic: "SKEPTEST", Format: 2}

func newBox(t testing.TB) ([]byte, *seal.Box) {
	t.Helper()
	header, box, err := seal.New(kind, seal.Key{1})
	if err != nil {
		t.Fatal(err)
	}
	return header, box
}

func TestFramesAreReadAsTheyWereSealed(t *testing.T) {
	t.Parallel()
	header, box := newBox(t)
	data := header
	contents := [][]byte{nil, []byte("a"), bytes.Repeat([]byte("b"), 1000), make([]byte, 8)}
	for i, c := range contents {
		before := len(data)
		data = box.Seal(data, uint32(i), uint64(i)*7, c)
		if got := len(data) - before; got != seal.FrameSize(len(c)) || got%8 != 0 {
			t.Errorf("a frame of %d bytes takes %d, want %d", len(c), got, seal.FrameSize(len(c)))
		}
	}
	again, format, err := seal.Open(kind, seal.Key{1}, data[:seal.HeaderSize])
	if err != nil || format != 2 {
		t.Fatalf("the header opens as format %d with %v, want 2", format, err)
	}
	rest := data[seal.HeaderSize:]
	for i, c := range contents {
		f, err := again.Next(rest)
		if err != nil {
			t.Fatal(err)
		}
		if f.Number != uint32(i) || f.Tag != uint64(i)*7 || !bytes.Equal(f.Plain, c) {
			t.Errorf("frame %d is number %d, tag %d, content %q", i, f.Number, f.Tag, f.Plain)
		}
		rest = rest[f.Size:]
	}
	for _, end := range [][]byte{rest, make([]byte, 100)} {
		if _, err := again.Next(end); !errors.Is(err, seal.ErrEnd) {
			t.Errorf("after the last frame got %v, want %v", err, seal.ErrEnd)
		}
	}
}

// Fault 30 of the reliability promises: no nonce is used twice with one key.
func TestTwoFilesNeverShareAKeystream(t *testing.T) {
	t.Parallel()
	_, a := newBox(t)
	_, b := newBox(t)
	content := []byte("the same content, number and tag")
	if bytes.Equal(a.Seal(nil, 1, 1, content), b.Seal(nil, 1, 1, content)) {
		t.Error("two files seal alike")
	}
}

func TestTheContentIsNotReadable(t *testing.T) {
	t.Parallel()
	_, box := newBox(t)
	if bytes.Contains(box.Seal(nil, 1, 1, []byte("a secret")), []byte("secret")) {
		t.Error("the content stands in the frame")
	}
}

func TestAnyAlteredBitOfAFrameIsNoticed(t *testing.T) {
	t.Parallel()
	_, box := newBox(t)
	good := box.Seal(nil, 3, 9, []byte("content"))
	for bit := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		if f, err := box.Next(bad); err == nil {
			t.Errorf("bit %d is altered, and the frame reads as %q", bit, f.Plain)
		}
	}
	for n := range good {
		if _, err := box.Next(good[:n]); err == nil {
			t.Errorf("the first %d bytes of a frame pass for it", n)
		}
	}
}

func TestAFrameOfAnotherFileDoesNotOpen(t *testing.T) {
	t.Parallel()
	_, a := newBox(t)
	_, b := newBox(t)
	if _, err := b.Next(a.Seal(nil, 1, 1, []byte("x"))); !errors.Is(err, seal.ErrForged) {
		t.Errorf("got %v, want %v", err, seal.ErrForged)
	}
}

func TestWhatIsWrongWithAHeaderIsSaid(t *testing.T) {
	t.Parallel()
	header, _ := newBox(t)
	for bit := range len(header) * 8 {
		bad := bytes.Clone(header)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, _, err := seal.Open(kind, seal.Key{1}, bad); err == nil {
			t.Errorf("bit %d of the header is altered, and it opens", bit)
		}
	}
	for _, c := range []struct {
		name   string
		kind   seal.Kind
		key    seal.Key
		header []byte
		want   error
	}{
		{"another kind", seal.Kind{Magic: "SKEPELSE", Format: 2}, seal.Key{1}, header, seal.ErrForeign},
		{"a newer format", seal.Kind{Magic: kind.Magic, Format: 1}, seal.Key{1}, header, seal.ErrNewer},
		{"another key", kind, seal.Key{2}, header, seal.ErrKey},
		{"a short header", kind, seal.Key{1}, header[:50], seal.ErrHeader},
		{"nothing", kind, seal.Key{1}, nil, seal.ErrHeader},
	} {
		if _, _, err := seal.Open(c.kind, c.key, c.header); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

func TestADamageErrorAdvises(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		advice string
	}{
		{seal.ErrKey, seal.AdviceKey},
		{seal.ErrNewer, seal.AdviceNewer},
		{seal.ErrForeign, seal.AdviceForeign},
		{seal.ErrChecksum, seal.AdviceRestore},
	} {
		got := kind.Damage("dir/file", 42, c.err).Error()
		for _, part := range []string{"thing dir/file", "offset 42", c.err.Error(), c.advice} {
			if !strings.Contains(got, part) {
				t.Errorf("%q lacks %q", got, part)
			}
		}
	}
}

func FuzzNext(f *testing.F) {
	_, box := newBox(f)
	f.Add(box.Seal(nil, 1, 2, []byte("content")))
	f.Add(make([]byte, 30))
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := box.Next(data)
		if err == nil && (frame.Size > len(data) || frame.Size != seal.FrameSize(len(frame.Plain))) {
			t.Fatalf("a frame of %d bytes was found in %d", frame.Size, len(data))
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	_, box := newBox(b)
	content := bytes.Repeat([]byte("x"), 600)
	var buf []byte
	b.ReportAllocs()
	b.SetBytes(int64(len(content)))
	for number := uint32(0); b.Loop(); number++ {
		buf = box.Seal(buf[:0], number, 1, content)
	}
}
