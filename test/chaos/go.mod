module skep/test/chaos

go 1.26.0

require skep v0.0.0

replace skep => ../..

require (
	github.com/distribution/reference v0.6.0 // indirect
	go.etcd.io/raft/v3 v3.7.0 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261019180522-ce908d29299b
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12 // indirect
)

require github.com/anishathalye/porcupine v1.3.1 // indirect

require github.com/stretchr/testify v1.12.1 // indirect

require (
	github.com/opencontainers/go-digest v1.0.0 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)
