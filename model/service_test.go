package model_test

import (
	"strings"
	"testing"

	"skep/api"
	"skep/model"
)

func TestASpecThatWouldNotFitIntoTheLogIsRefusedWithTheWayOut(t *testing.T) {
	t.Parallel()
	spec := func(env int) *api.ServiceSpec {
		return &api.ServiceSpec{
			Annotations: &api.Annotations{Name: "web"},
			Mode:        &api.ServiceSpec_Replicated{Replicated: &api.ReplicatedService{Replicas: 1}},
			Task: &api.TaskSpec{Runtime: &api.TaskSpec_Container{Container: &api.ContainerSpec{
				Image: "web", Env: []string{"A=" + strings.Repeat("x", env)}}}},
		}
	}
	if err := model.CheckService(spec(model.MaxServiceSpec - 100)); err != nil {
		t.Errorf("a spec below the limit: %v", err)
	}
	err := model.CheckService(spec(model.MaxServiceSpec))
	if model.KindOf(err) != model.Exhausted || !strings.Contains(err.Error(), "configs and secrets") {
		t.Errorf("a spec above the limit: got %v, want one of kind Exhausted that names configs and secrets", err)
	}
}
