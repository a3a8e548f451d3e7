package logbroker

import (
	"google.golang.org/grpc"

	"skep/api"
	"skep/model"
)

// Logs serves Logs. Its zero value is ready.
type Logs struct{ api.UnimplementedLogsServer }

// SubscribeLogs is not built yet.
func (*Logs) SubscribeLogs(*api.SubscribeLogsRequest, grpc.ServerStreamingServer[api.SubscribeLogsMessage]) error {
	return model.Errorf(model.Unimplemented, "the cluster does not collect the output of tasks yet; read that of a process on its own node, with swarmctl task logs")
}

// Broker serves LogBroker. Its zero value is ready.
type Broker struct {
	api.UnimplementedLogBrokerServer
}

// ListenSubscriptions is not built yet; agents go on without.
func (*Broker) ListenSubscriptions(*api.ListenSubscriptionsRequest, grpc.ServerStreamingServer[api.SubscriptionMessage]) error {
	return model.Errorf(model.Unimplemented, "this manager subscribes to no output of tasks yet; go on without")
}

// PublishLogs is not built yet; nobody subscribes.
func (*Broker) PublishLogs(grpc.ClientStreamingServer[api.PublishLogsMessage, api.PublishLogsResponse]) error {
	return model.Errorf(model.Unimplemented, "this manager has not subscribed to any output of tasks; keep it")
}
