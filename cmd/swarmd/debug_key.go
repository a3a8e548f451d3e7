package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/term"

	"skep/ca"
	"skep/vfs"
)

// unlockKeyVariable is the environment variable that may hold the unlock key.
const unlockKeyVariable = "SWARM_UNLOCK_KEY"

// raftKeys returns the keys of the raft log. If the key file is locked it takes the unlock
// key from the file that is named, the environment, or whoever sits at the terminal.
func raftKeys(dir, keyFile string, prompt io.Writer) (ca.RaftKeys, error) {
	files := ca.NewFiles(vfs.ReadOnly(vfs.OS()), dir)
	keys, err := files.RaftKeys()
	if errors.Is(err, ca.ErrLocked) {
		var kek []byte
		if kek, err = unlockKey(keyFile, prompt); err != nil {
			return keys, err
		}
		if err = files.Unlock(kek); err != nil {
			return keys, err
		}
		keys, err = files.RaftKeys()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return keys, fmt.Errorf("%w: this node has no identity yet", err)
	case err == nil && keys.Write() == nil:
		return keys, fmt.Errorf("the key file in %s holds no key of a raft log: this node is no manager", dir)
	}
	return keys, err
}

func unlockKey(keyFile string, prompt io.Writer) ([]byte, error) {
	text, from := os.Getenv(unlockKeyVariable), "$"+unlockKeyVariable
	stdin := int(os.Stdin.Fd())
	switch {
	case keyFile != "":
		data, err := os.ReadFile(keyFile)
		if err != nil {
			return nil, fmt.Errorf("--unlock-key-file: %w", err)
		}
		text, from = string(data), "--unlock-key-file"
	case text != "":
	case term.IsTerminal(stdin):
		fmt.Fprint(prompt, "Unlock key: ")
		data, err := term.ReadPassword(stdin)
		fmt.Fprintln(prompt)
		if err != nil {
			return nil, fmt.Errorf("read the unlock key: %w", err)
		}
		text, from = string(data), "what was typed"
	default:
		return nil, fmt.Errorf("%w; give it with --unlock-key-file or $%s", ca.ErrLocked, unlockKeyVariable)
	}
	return parseUnlockKey(text, from)
}

// parseUnlockKey never says what text is: it may be a key with a typing error.
func parseUnlockKey(text, from string) ([]byte, error) {
	const prefix = "SWMKEY-1-"
	digits, ok := strings.CutPrefix(strings.TrimSpace(text), prefix)
	kek, err := base64.RawStdEncoding.DecodeString(digits)
	if !ok || err != nil || len(kek) != 32 {
		return nil, fmt.Errorf("%s is no unlock key: one begins with %s and has %d characters after that", from, prefix, base64.RawStdEncoding.EncodedLen(32))
	}
	return kek, nil
}
