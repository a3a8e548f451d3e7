package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	_ "skep/api" // registers the messages
	_ "skep/api/skep"
)

func main() {
	if err := recode(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "recode:", err)
		os.Exit(1)
	}
}

// recode answers each message of r on w until r ends.
func recode(r io.Reader, w io.Writer) error {
	in, out := bufio.NewReader(r), bufio.NewWriter(w)
	for {
		envelope := &anypb.Any{}
		err := protodelim.UnmarshalFrom(in, envelope)
		if errors.Is(err, io.EOF) {
			return out.Flush()
		}
		if err != nil {
			return fmt.Errorf("read a message: %w", err)
		}
		m, err := envelope.UnmarshalNew()
		if err != nil {
			return fmt.Errorf("decode %s: %w", envelope.TypeUrl, err)
		}
		if envelope.Value, err = (proto.MarshalOptions{Deterministic: true}).Marshal(m); err != nil {
			return fmt.Errorf("encode %s: %w", envelope.TypeUrl, err)
		}
		if _, err := protodelim.MarshalTo(out, envelope); err != nil {
			return fmt.Errorf("write %s: %w", envelope.TypeUrl, err)
		}
	}
}
