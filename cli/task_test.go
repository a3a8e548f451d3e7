package cli

import "testing"

func TestTheNameOfASlotMeansItsTaskOfNow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ why, tasks, name, want string }{
		{why: "nothing is there", name: "web.1"},
		{why: "the only one", name: "web.2", want: "t1", tasks: `1 RUNNING RUNNING
			2 RUNNING RUNNING`},
		{why: "the one that is wanted, before a newer one that is not", name: "web.1", want: "t0", tasks: `1 RUNNING RUNNING
			1 FAILED SHUTDOWN`},
		{why: "the one that takes over, before the one that ends", name: "web.1", want: "t1", tasks: `1 RUNNING SHUTDOWN
			1 PREPARING READY`},
		{why: "the newest of the history", name: "web.1", want: "t1", tasks: `1 FAILED SHUTDOWN
			1 FAILED SHUTDOWN`},
		{why: "slot ten is not slot one", name: "web.1", tasks: "10 RUNNING RUNNING"},
	} {
		t.Run(c.why, func(t *testing.T) {
			t.Parallel()
			got, ok := inSlot(c.name, parseTasks(t, c.tasks))
			if got.GetId() != c.want || ok != (c.want != "") {
				t.Errorf("got %q, %t; want %q", got.GetId(), ok, c.want)
			}
		})
	}
}

func TestACellStaysInItsRow(t *testing.T) {
	t.Parallel()
	if got, want := oneLine("sh -c\n\techo  one\n"), "sh -c echo one"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := shortened("a command of which nobody wants to read more than this"), "a command of which nobody wants to read…"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := shortened("hello --name x"), "hello --name x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
