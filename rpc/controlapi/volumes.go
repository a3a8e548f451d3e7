package controlapi

import (
	"context"

	"skep/api"
	"skep/model"
)

// noVolumes is what this version answers to every change of a volume.
func noVolumes(what string) error {
	return model.Errorf(model.Unimplemented, "%s: this version does not manage volumes through drivers yet; mount a directory or a volume of the engine", what)
}

// CreateVolume checks the spec of a volume; there are none yet.
func (s *Server) CreateVolume(_ context.Context, r *api.CreateVolumeRequest) (*api.CreateVolumeResponse, error) {
	if err := model.CheckVolume(r.GetSpec()); err != nil {
		return nil, err
	}
	return nil, noVolumes("a volume cannot be created")
}

// GetVolume returns a volume.
func (s *Server) GetVolume(_ context.Context, r *api.GetVolumeRequest) (*api.GetVolumeResponse, error) {
	v, ok := s.store.Read().Volumes.Get(r.GetVolumeId())
	if !ok {
		return nil, model.Errorf(model.NotFound, "volume %.80q not found: it never was, or has been removed; list those there are", r.GetVolumeId())
	}
	return &api.GetVolumeResponse{Volume: v}, nil
}

// ListVolumes returns the volumes that meet the filters.
func (s *Server) ListVolumes(_ context.Context, r *api.ListVolumesRequest) (*api.ListVolumesResponse, error) {
	f := r.GetFilters()
	volumes := list(named(s.store.Read().Volumes, f.GetNames()), func(v *api.Volume) bool {
		a := v.GetSpec().GetAnnotations()
		return holdAll(f, v.GetId(), a.GetName(), a.GetLabels()) &&
			among(f.GetGroups(), v.GetSpec().GetGroup()) &&
			among(f.GetDrivers(), v.GetSpec().GetDriver().GetName())
	})
	return &api.ListVolumesResponse{Volumes: volumes}, nil
}

// UpdateVolume checks that there is such a volume; it cannot change yet.
func (s *Server) UpdateVolume(_ context.Context, r *api.UpdateVolumeRequest) (*api.UpdateVolumeResponse, error) {
	v, err := find[*api.Volume](s.store.Read(), r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if err := model.CheckVolumeUpdate(v.GetSpec(), r.GetSpec()); err != nil {
		return nil, err
	}
	return nil, noVolumes("a volume cannot be updated")
}

// RemoveVolume checks that there is such a volume; it cannot be removed yet.
func (s *Server) RemoveVolume(_ context.Context, r *api.RemoveVolumeRequest) (*api.RemoveVolumeResponse, error) {
	if _, err := find[*api.Volume](s.store.Read(), r.GetVolumeId()); err != nil {
		return nil, err
	}
	return nil, noVolumes("a volume cannot be removed")
}
