package model

import (
	"time"

	"github.com/distribution/reference"
	"google.golang.org/protobuf/types/known/durationpb"

	"skep/api"
)

const (
	minHealthDuration = time.Millisecond
	// maxImageLength is longer than a name of 255, a tag of 128 and a digest; what
	// is longer takes very long to parse.
	maxImageLength = 1024
)

func checkContainer(c *api.ContainerSpec) error {
	if err := checkSecretReferences(c); err != nil {
		return err
	}
	if err := checkConfigReferences(c); err != nil {
		return err
	}
	if err := checkImage(c.GetImage()); err != nil {
		return err
	}
	targets := make(map[string]bool, len(c.GetMounts()))
	for i, m := range c.GetMounts() {
		if targets[m.GetTarget()] {
			return Errorf(Invalid, "task.container.mounts.%d: something is mounted at %.200q already; give each mount a target of its own", i, m.GetTarget())
		}
		targets[m.GetTarget()] = true
	}
	return checkHealth(c.GetHealthcheck())
}

func checkImage(image string) error {
	if image == "" {
		return Errorf(Invalid, "task.container.image is empty: a container is made from an image; name one, such as nginx:1.27")
	}
	if len(image) > maxImageLength {
		return Errorf(Invalid, "task.container.image %.80q… is too long: it has %d characters and may have %d; write it as name[:tag][@digest]", image, len(image), maxImageLength)
	}
	if _, err := reference.ParseNormalizedNamed(image); err != nil {
		return Errorf(Invalid, "task.container.image %.200q is not an image reference (%w); write it as name[:tag][@digest]", image, err)
	}
	return nil
}

func checkHealth(h *api.HealthConfig) error {
	for _, d := range []struct {
		name  string
		value *durationpb.Duration
	}{
		{"interval", h.GetInterval()},
		{"timeout", h.GetTimeout()},
		{"start_period", h.GetStartPeriod()},
		{"start_interval", h.GetStartInterval()},
	} {
		if v := d.value.AsDuration(); v != 0 && v < minHealthDuration {
			return Errorf(Invalid, "task.container.healthcheck.%s is %v: the shortest is %v; give that or more, or 0 for the default", d.name, v, minHealthDuration)
		}
	}
	if h.GetRetries() < 0 {
		return Errorf(Invalid, "task.container.healthcheck.retries is %d: a number of tries is not negative; give 0 or more", h.GetRetries())
	}
	return nil
}

// checkSecretReferences checks that each secret is named, has a place, and that
// no two are written to one file.
func checkSecretReferences(c *api.ContainerSpec) error {
	files := make(map[string]bool, len(c.GetSecrets()))
	for i, s := range c.GetSecrets() {
		if s.GetSecretId() == "" || s.GetSecretName() == "" {
			return Errorf(Invalid, "task.container.secrets.%d is incomplete: a secret is referred to by ID and name; set secret_id and secret_name", i)
		}
		if s.GetTarget() == nil {
			return Errorf(Invalid, "task.container.secrets.%d (%.80q) has no target: nothing says where it goes; set file", i, s.GetSecretName())
		}
		if err := checkFile("secret", s.GetSecretName(), s.GetFile(), files); err != nil {
			return err
		}
	}
	return nil
}

// checkConfigReferences is checkSecretReferences for configs, which may also be
// read by the runtime itself: then credential_spec has to name one of those.
func checkConfigReferences(c *api.ContainerSpec) error {
	files := make(map[string]bool, len(c.GetConfigs()))
	forRuntime := make(map[string]bool)
	for i, cfg := range c.GetConfigs() {
		if cfg.GetConfigId() == "" || cfg.GetConfigName() == "" {
			return Errorf(Invalid, "task.container.configs.%d is incomplete: a config is referred to by ID and name; set config_id and config_name", i)
		}
		switch t := cfg.GetTarget().(type) {
		case *api.ConfigReference_File:
			if err := checkFile("config", cfg.GetConfigName(), t.File, files); err != nil {
				return err
			}
		case *api.ConfigReference_Runtime:
			forRuntime[cfg.GetConfigId()] = true
		default:
			return Errorf(Invalid, "task.container.configs.%d (%.80q) has no target: nothing says where it goes; set file or runtime", i, cfg.GetConfigName())
		}
	}
	if s, ok := c.GetPrivileges().GetCredentialSpec().GetSource().(*api.Privileges_CredentialSpec_Config); ok && !forRuntime[s.Config] {
		return Errorf(Invalid, "task.container.privileges.credential_spec names config %.80q, which the task does not refer to with target runtime; add it to configs", s.Config)
	}
	return nil
}

func checkFile(what, name string, f *api.FileTarget, taken map[string]bool) error {
	if f.GetName() == "" {
		return Errorf(Invalid, "%s %.80q goes to a file without a name; set file.name", what, name)
	}
	if taken[f.GetName()] {
		return Errorf(Invalid, "%s %.80q goes to file %.200q, and so does another: one would hide the other; choose another file name", what, name, f.GetName())
	}
	taken[f.GetName()] = true
	return nil
}
