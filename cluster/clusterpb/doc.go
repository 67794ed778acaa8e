// Package clusterpb is the wire form of package cluster: messages and the
// gRPC service of the coordinator, made from cluster.proto.
//
// Nothing is decided here and nothing here is written by hand but cluster.proto;
// cluster/coordinator translates between these messages and package cluster.
//
// `go generate` needs only Go and its module proxy: buf compiles the .proto
// without a system protoc, and the two plugins run from source at the versions
// in buf.gen.yaml. Its output is the same byte for byte on every machine; CI
// remakes it and compares.
package clusterpb

//go:generate go run github.com/bufbuild/buf/cmd/buf@v1.75.0 lint
//go:generate go run github.com/bufbuild/buf/cmd/buf@v1.75.0 generate
