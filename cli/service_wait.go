package cli

import (
	"github.com/spf13/cobra"

	"skep/api"
)

func (a *app) serviceWait() *cobra.Command {
	var waiting waitFlags
	c := &cobra.Command{
		Use: "wait SERVICE…", Short: "Wait until services run as asked", Args: arguments(1, -1),
		Example: "  swarmctl service wait --timeout 1m web",
	}
	waiting.registerTimeout(c.Flags())
	waiting.registerStable(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		control, err := a.control()
		if err != nil {
			return err
		}
		return each(c.Context(), a, a.services(control), args, func(s *api.Service) error {
			return a.wait(c.Context(), control, s, waiting)
		})
	}
	return c
}
