package logbroker_test

import (
	"testing"

	"skep/model"
	"skep/rpc/logbroker"
)

func TestEveryStreamIsUnimplementedForNow(t *testing.T) {
	t.Parallel()
	var broker logbroker.Broker
	for name, err := range map[string]error{
		"SubscribeLogs":       (&logbroker.Logs{}).SubscribeLogs(nil, nil),
		"ListenSubscriptions": broker.ListenSubscriptions(nil, nil),
		"PublishLogs":         broker.PublishLogs(nil),
	} {
		if model.KindOf(err) != model.Unimplemented {
			t.Errorf("%s: got %v, want Unimplemented", name, err)
		}
	}
}
