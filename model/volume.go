package model

import (
	"google.golang.org/protobuf/proto"

	"skep/api"
)

// CheckVolume checks the spec of a new volume. Its errors have kind Invalid.
// Whether its secrets exist is checked in the transaction that stores it.
func CheckVolume(spec *api.VolumeSpec) error {
	if spec == nil {
		return Errorf(Invalid, "volume has no spec: nothing says what it is; set spec")
	}
	if err := CheckObjectName("volume", spec.GetAnnotations().GetName()); err != nil {
		return err
	}
	if err := CheckWellFormed("volume", spec); err != nil {
		return err
	}
	switch {
	case spec.GetDriver().GetName() == "":
		return Errorf(Invalid, "volume.driver has no name: nothing says who provides the volume; name a driver")
	case spec.GetAccessMode() == nil:
		return Errorf(Invalid, "volume.access_mode is empty: nothing says who may use it at once; set scope and sharing")
	case spec.GetAccessMode().GetAccessType() == nil:
		return Errorf(Invalid, "volume.access_mode has no access type: nothing says how it is used; set block or mount")
	}
	for i, s := range spec.GetSecrets() {
		if s.GetKey() == "" || s.GetSecret() == "" {
			return Errorf(Invalid, "volume.secrets.%d is incomplete: a driver's secret has a key and the ID of a secret; set both", i)
		}
	}
	return checkCapacity(spec.GetCapacityRange())
}

func checkCapacity(c *api.CapacityRange) error {
	required, limit := c.GetRequiredBytes(), c.GetLimitBytes()
	if required < 0 || limit < 0 {
		return Errorf(Invalid, "volume.capacity_range is %d to %d bytes: a size is not negative; give 0 or more", required, limit)
	}
	if limit != 0 && required > limit {
		return Errorf(Invalid, "volume.capacity_range asks for %d bytes or more and for %d or less: no volume is both; raise the limit", required, limit)
	}
	return nil
}

// CheckVolumeUpdate checks that an update of a volume changes labels and
// availability only.
func CheckVolumeUpdate(old, spec *api.VolumeSpec) error {
	if spec == nil {
		return Errorf(Invalid, "volume update has no spec: nothing says what to change; set spec")
	}
	if err := CheckWellFormed("volume", spec); err != nil {
		return err
	}
	var field string
	switch {
	case old.GetAnnotations().GetName() != spec.GetAnnotations().GetName():
		field = "annotations.name"
	case old.GetGroup() != spec.GetGroup():
		field = "group"
	case !proto.Equal(old.GetAccessibilityRequirements(), spec.GetAccessibilityRequirements()):
		field = "AccessibilityRequirements"
	case !proto.Equal(old.GetDriver(), spec.GetDriver()):
		field = "driver"
	case !proto.Equal(old.GetAccessMode(), spec.GetAccessMode()):
		field = "access_mode"
	case !proto.Equal(&api.VolumeSpec{Secrets: old.GetSecrets()}, &api.VolumeSpec{Secrets: spec.GetSecrets()}):
		field = "secrets"
	case !proto.Equal(old.GetCapacityRange(), spec.GetCapacityRange()):
		field = "capacity_range"
	default:
		return nil
	}
	return Errorf(Invalid, "volume.%s cannot change: the driver made the volume with it; only labels and availability may; create another volume", field)
}
