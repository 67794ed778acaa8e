// Package trainjob pushes a run's progress to the status of the Kubeflow TrainJob that it
// is part of (Kubeflow Trainer 2.2, KEP-2779), where `kubectl get trainjob` shows it. Its
// one idea: it is an observer. It sends the newest progress now and then, from a goroutine
// of its own, and whatever the server does, training does not notice.
//
// It does not speak to the API server, it needs no permission there, and outside a TrainJob
// it does nothing.
package trainjob
