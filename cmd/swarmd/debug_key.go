package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

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

// unlockKey returns the key that was given, or asks whoever sits at the terminal.
func unlockKey(keyFile string, prompt io.Writer) ([]byte, error) {
	key, err := givenUnlockKey("", keyFile)
	if err != nil || !key.IsZero() {
		return key.Bytes(), err
	}
	stdin := int(os.Stdin.Fd())
	if !term.IsTerminal(stdin) {
		return nil, fmt.Errorf("%w; give it with --unlock-key-file or $%s", ca.ErrLocked, unlockKeyVariable)
	}
	fmt.Fprint(prompt, "Unlock key: ")
	typed, err := term.ReadPassword(stdin)
	fmt.Fprintln(prompt)
	if err != nil {
		return nil, fmt.Errorf("read the unlock key: %w", err)
	}
	key, err = ca.ParseUnlockKey(string(typed))
	return key.Bytes(), err
}

// givenUnlockKey returns the key that a flag holds, or the file that one names, else the
// environment; none if there is none. Errors do not show what was given: it may be a key
// with a typing error.
func givenUnlockKey(text, file string) (ca.UnlockKey, error) {
	from := "--unlock-key"
	switch {
	case text != "" && file != "":
		return ca.UnlockKey{}, errors.New("--unlock-key and --unlock-key-file: give one of them")
	case file != "":
		data, err := os.ReadFile(file)
		if err != nil {
			return ca.UnlockKey{}, fmt.Errorf("--unlock-key-file: %w", err)
		}
		text, from = string(data), "--unlock-key-file"
	case text == "":
		if text, from = os.Getenv(unlockKeyVariable), "$"+unlockKeyVariable; text == "" {
			return ca.UnlockKey{}, nil
		}
	}
	key, err := ca.ParseUnlockKey(text)
	if err != nil {
		return key, fmt.Errorf("%s: %w", from, err)
	}
	return key, nil
}
