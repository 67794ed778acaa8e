//go:build !cuda

package doctor

func gpus() []Finding {
	return []Finding{{
		Status: Note, Name: "GPU", Text: "this build has no CUDA backend: it trains on the CPU",
		Fix: "on linux, make cuda BIN=agrdist builds one that has",
	}}
}
