//go:build unix

package supervise

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// output takes the bytes a worker writes and passes them on as lines.
type output struct {
	s       *Supervisor
	name    string
	prefix  []byte
	file    *logFile // nil without a log directory
	last    lastWords
	warned  bool
	partial []byte // the line not yet ended, at most MaxLine bytes
	cut     int    // bytes dropped from its end
	toFile  bytes.Buffer
	toOut   bytes.Buffer
}

// newOutput opens the log file. Where that cannot be, the worker runs without.
func (s *Supervisor) newOutput(name string) *output {
	o := &output{s: s, name: name, prefix: []byte("[" + name + "] "), last: lastWords{max: s.cfg.LastWords}}
	if s.cfg.LogDir != "" {
		f, err := openLog(s.cfg.LogDir, name, s.cfg.MaxLogBytes)
		if err != nil {
			s.log.Warn("worker has no log file", slog.String("name", name), slog.Any("error", err))
			return o
		}
		o.file = f
	}
	return o
}

// header marks the beginning of an incarnation in the log file.
func (o *output) header(c *child) {
	fmt.Fprintf(&o.toFile, "=== %s incarnation %d, process %d, started %s ===\n",
		c.name, c.incarnation, c.pid, c.started.UTC().Format(time.RFC3339))
	o.flush()
}

// Write implements io.Writer; it never fails, so that a full disk or a closed
// terminal does not stop a worker.
func (o *output) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			o.keep(p)
			break
		}
		o.keep(p[:i])
		o.endLine()
		p = p[i+1:]
	}
	o.flush()
	return n, nil
}

// keep appends to the line under way, up to MaxLine bytes.
func (o *output) keep(p []byte) {
	room := o.s.cfg.MaxLine - len(o.partial)
	if len(p) > room {
		o.cut += len(p) - room
		p = p[:room]
	}
	o.partial = append(o.partial, p...)
}

// endLine passes the line under way on.
func (o *output) endLine() {
	line := bytes.TrimSuffix(o.partial, []byte("\r"))
	if o.cut > 0 {
		line = fmt.Appendf(slices.Clip(line), " [%d bytes cut]", o.cut)
	}
	o.last.add(line)
	if o.file != nil {
		o.toFile.Write(line)
		o.toFile.WriteByte('\n')
	}
	o.toOut.Write(o.prefix)
	o.toOut.Write(line)
	o.toOut.WriteByte('\n')
	o.partial, o.cut = o.partial[:0], 0
}

// flush writes the gathered lines out.
func (o *output) flush() {
	if o.file != nil && o.toFile.Len() > 0 {
		if err := o.file.write(o.toFile.Bytes()); err != nil && !o.warned {
			o.warned = true
			o.s.log.Warn("worker log lost", slog.String("name", o.name), slog.Any("error", err))
		}
	}
	o.toFile.Reset()
	if o.toOut.Len() > 0 {
		o.s.out.Lock()
		_, _ = o.s.cfg.Output.Write(o.toOut.Bytes())
		o.s.out.Unlock()
	}
	o.toOut.Reset()
}

// close passes on a last line without an end and closes the file.
func (o *output) close() {
	if len(o.partial) > 0 {
		o.endLine()
		o.flush()
	}
	if o.file != nil {
		o.file.close()
	}
}

// lastWords keeps the last lines, and the line of a panic.
type lastWords struct {
	max   int
	ring  []string
	next  int
	total int
	panic string
	at    int // number of the panic's line
}

var panicMarks = [][]byte{[]byte("panic: "), []byte("fatal error: "), []byte("SIGSEGV: ")}

func (l *lastWords) add(line []byte) {
	if len(bytes.TrimSpace(line)) == 0 {
		return
	}
	if l.panic == "" {
		for _, mark := range panicMarks {
			if bytes.HasPrefix(line, mark) {
				l.panic, l.at = string(line), l.total
				break
			}
		}
	}
	l.total++
	if len(l.ring) < l.max {
		l.ring = append(l.ring, string(line))
		return
	}
	l.ring[l.next] = string(line)
	l.next = (l.next + 1) % l.max
}

// lines returns what was kept, oldest first.
func (l *lastWords) lines() []string {
	out := append(append([]string(nil), l.ring[l.next:]...), l.ring[:l.next]...)
	if l.panic != "" && l.at < l.total-len(l.ring) {
		out = append([]string{l.panic, "..."}, out...)
	}
	return out
}
