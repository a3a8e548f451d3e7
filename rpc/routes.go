package rpc

import (
	"skep/api"
	"skep/api/skep"
)

// routeOf returns the route of a method by its full name, 0 when it has none.
// Each method has its line: what a new method needs is a decision, not a default.
func routeOf(fullMethod string) Route {
	switch fullMethod {
	case api.Control_GetNode_FullMethodName,
		api.Control_ListNodes_FullMethodName,
		api.Control_GetTask_FullMethodName,
		api.Control_ListTasks_FullMethodName,
		api.Control_GetService_FullMethodName,
		api.Control_ListServices_FullMethodName,
		api.Control_ListServiceStatuses_FullMethodName,
		api.Control_GetNetwork_FullMethodName,
		api.Control_ListNetworks_FullMethodName,
		api.Control_GetCluster_FullMethodName,
		api.Control_ListClusters_FullMethodName,
		api.Control_GetSecret_FullMethodName,
		api.Control_ListSecrets_FullMethodName,
		api.Control_GetConfig_FullMethodName,
		api.Control_ListConfigs_FullMethodName,
		api.Control_GetExtension_FullMethodName,
		api.Control_GetResource_FullMethodName,
		api.Control_ListResources_FullMethodName,
		api.Control_GetVolume_FullMethodName,
		api.Control_ListVolumes_FullMethodName:
		return Read
	case api.Control_UpdateNode_FullMethodName,
		api.Control_RemoveNode_FullMethodName,
		api.Control_RemoveTask_FullMethodName,
		api.Control_CreateService_FullMethodName,
		api.Control_UpdateService_FullMethodName,
		api.Control_RemoveService_FullMethodName,
		api.Control_CreateNetwork_FullMethodName,
		api.Control_RemoveNetwork_FullMethodName,
		api.Control_UpdateCluster_FullMethodName,
		api.Control_CreateSecret_FullMethodName,
		api.Control_UpdateSecret_FullMethodName,
		api.Control_RemoveSecret_FullMethodName,
		api.Control_CreateConfig_FullMethodName,
		api.Control_UpdateConfig_FullMethodName,
		api.Control_RemoveConfig_FullMethodName,
		api.Control_CreateExtension_FullMethodName,
		api.Control_RemoveExtension_FullMethodName,
		api.Control_CreateResource_FullMethodName,
		api.Control_UpdateResource_FullMethodName,
		api.Control_RemoveResource_FullMethodName,
		api.Control_CreateVolume_FullMethodName,
		api.Control_UpdateVolume_FullMethodName,
		api.Control_RemoveVolume_FullMethodName:
		return Leader
	case api.CA_GetUnlockKey_FullMethodName,
		api.NodeCA_IssueNodeCertificate_FullMethodName,
		api.NodeCA_NodeCertificateStatus_FullMethodName,
		skep.Recovery_Renew_FullMethodName,
		api.Dispatcher_Session_FullMethodName,
		api.Dispatcher_Heartbeat_FullMethodName,
		api.Dispatcher_UpdateTaskStatus_FullMethodName,
		api.Dispatcher_UpdateVolumeStatus_FullMethodName,
		api.Dispatcher_Tasks_FullMethodName,
		api.Dispatcher_Assignments_FullMethodName,
		api.ResourceAllocator_AttachNetwork_FullMethodName,
		api.ResourceAllocator_DetachNetwork_FullMethodName,
		api.Logs_SubscribeLogs_FullMethodName,
		api.LogBroker_ListenSubscriptions_FullMethodName,
		api.LogBroker_PublishLogs_FullMethodName,
		api.RaftMembership_Join_FullMethodName,
		api.RaftMembership_Leave_FullMethodName,
		skep.Insight_ClusterHealth_FullMethodName:
		return Leader
	case api.CA_GetRootCACertificate_FullMethodName,
		api.Watch_Watch_FullMethodName,
		api.Health_Check_FullMethodName,
		api.Raft_ProcessRaftMessage_FullMethodName,
		api.Raft_StreamRaftMessage_FullMethodName,
		api.Raft_ResolveAddress_FullMethodName,
		skep.Replication_Messages_FullMethodName,
		skep.Replication_Snapshot_FullMethodName,
		skep.Local_Status_FullMethodName,
		skep.Local_TaskLogs_FullMethodName,
		skep.Local_Unlock_FullMethodName,
		skep.Local_Leave_FullMethodName:
		return Local
	}
	return 0
}
