package process

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"skep/agent/exec"
	"skep/api/skep"
	"skep/model"
	"skep/template"
)

// file is a secret or config as the process finds it.
type file struct {
	// path is relative to the directory of its kind.
	path    string
	mode    os.FileMode
	content []byte
}

// payload is all that a task gets as files.
type payload struct{ secrets, configs []file }

// references reads what a task refers to and expands what is templated.
type references struct {
	spec *skep.ProcessSpec
	deps exec.Dependencies
	data template.Data
	env  []string
}

func (r references) load() (payload, error) {
	var p payload
	for _, reference := range r.spec.GetSecrets() {
		content, err := r.secret(reference)
		if err != nil {
			return payload{}, err
		}
		p.secrets = append(p.secrets, fileOf(reference, content))
	}
	for _, reference := range r.spec.GetConfigs() {
		content, err := r.config(reference)
		if err != nil {
			return payload{}, err
		}
		p.configs = append(p.configs, fileOf(reference, content))
	}
	return p, nil
}

func fileOf(reference *skep.FileReference, content []byte) file {
	f := file{path: model.FileTarget(reference), mode: os.FileMode(reference.GetMode()).Perm(), content: content}
	if reference.GetMode() == 0 {
		f.mode = 0o400
	}
	return f
}

func (r references) secret(reference *skep.FileReference) ([]byte, error) {
	secret, err := r.deps.Secret(reference.GetId())
	if err != nil {
		return nil, fmt.Errorf("get secret %s: %w", reference.GetName(), err)
	}
	content, _, err := r.data.Payload(secret.GetSpec().GetTemplating(), secret.GetSpec().GetData(), r.plain())
	if err != nil {
		return nil, fmt.Errorf("expand secret %s: %w", reference.GetName(), err)
	}
	return content, nil
}

func (r references) config(reference *skep.FileReference) ([]byte, error) {
	config, err := r.deps.Config(reference.GetId())
	if err != nil {
		return nil, fmt.Errorf("get config %s: %w", reference.GetName(), err)
	}
	content, _, err := r.data.Payload(config.GetSpec().GetTemplating(), config.GetSpec().GetData(), r.plain())
	if err != nil {
		return nil, fmt.Errorf("expand config %s: %w", reference.GetName(), err)
	}
	return content, nil
}

// plain gives templates the content of other files as they are stored, so that
// two templates cannot refer to each other for ever.
func (r references) plain() template.Files {
	return template.Files{
		Env: r.env,
		Secret: func(name string) ([]byte, error) {
			for _, reference := range r.spec.GetSecrets() {
				if model.FileTarget(reference) == name {
					secret, err := r.deps.Secret(reference.GetId())
					return secret.GetSpec().GetData(), err
				}
			}
			return nil, fmt.Errorf("the task has no secret with the target %q", name)
		},
		Config: func(name string) ([]byte, error) {
			for _, reference := range r.spec.GetConfigs() {
				if model.FileTarget(reference) == name {
					config, err := r.deps.Config(reference.GetId())
					return config.GetSpec().GetData(), err
				}
			}
			return nil, fmt.Errorf("the task has no config with the target %q", name)
		},
	}
}

// Directories of the two kinds below holdings.Files.
const secretsDir, configsDir = "secrets", "configs"

// write makes the files in a directory of their own, which must not exist yet.
func (p payload) write(dir string, owner person) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for name, files := range map[string][]file{secretsDir: p.secrets, configsDir: p.configs} {
		if len(files) == 0 {
			continue
		}
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
		for _, f := range files {
			if err := f.write(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return giveAway(dir, owner)
}

// giveAway makes all of dir the owner's, the directory itself last: until then
// nobody else can change what is in it.
func giveAway(dir string, owner person) error {
	var paths []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	for _, path := range slices.Backward(paths) {
		err = errors.Join(err, owner.own(path))
	}
	return err
}

func (f file) write(dir string) error {
	path := filepath.Join(dir, f.path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path, f.content, 0o600); err != nil {
		return err
	}
	return os.Chmod(path, f.mode)
}

// memory finds a file system in memory that we may write to, "" if there is none.
func memory() string {
	for _, dir := range []string{"/dev/shm", "/run"} {
		var fs unix.Statfs_t
		if unix.Statfs(dir, &fs) == nil && fs.Type == unix.TMPFS_MAGIC && unix.Access(dir, unix.W_OK|unix.X_OK) == nil {
			return dir
		}
	}
	return ""
}

// filesPath is where the files of a task go: in memory under a name that nobody
// can know before, else in its directory, or where another user can reach them.
func filesPath(memory string, dir directory, owner person) string {
	if memory == "" && owner.account == nil {
		return dir.path(filesDir)
	}
	if memory == "" {
		memory = os.TempDir()
	}
	return filepath.Join(memory, "skep-"+rand.Text())
}
