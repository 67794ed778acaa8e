// Command pause is what the pods of the test's cluster hold beside agrdist. Without
// arguments it is the first process of every pod, in the place of
// registry.k8s.io/pause: it reaps orphans and waits for a signal.
//
//	pause listen PORT...       takes TCP connections, and answers each with its first byte
//	pause dial HOST:PORT...    says every second of each address whether it can be reached
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 2 {
		for _, a := range os.Args[2:] {
			if os.Args[1] == "listen" {
				go listen(a)
			} else {
				go dial(a)
			}
		}
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}

func listen(port string) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", ":"+port)
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		os.Exit(1)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			continue
		}
		_, _ = c.Write([]byte{1}) // the other side notices
		_ = c.Close()
	}
}

func dial(addr string) {
	dialer := net.Dialer{Timeout: 2 * time.Second}
	for range time.Tick(time.Second) {
		c, err := dialer.DialContext(context.Background(), "tcp", addr)
		if err != nil {
			fmt.Fprintln(os.Stdout, addr, "closed", err)
			continue
		}
		_ = c.Close()
		fmt.Fprintln(os.Stdout, addr, "open")
	}
}
