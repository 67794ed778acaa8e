package simulate

// line is an open stream between a client (an agent or a worker) and a coordinator. What
// is sent while the link is down arrives when it is up again, or never.
type line[Up, Down any] struct {
	client int         // node
	dead   func() bool // the client's process
	holder *holder
	up     []post[Up]
	down   []post[Down]
	heard  int // tick at which the two could speak last
	ended  bool
	closed bool // by the client's end
}

type post[T any] struct {
	due int
	msg T
}

// silence is how long a stream may carry nothing.
const silence = 3 * second

func newLine[Up, Down any](w *world, client int, dead func() bool, h *holder) *line[Up, Down] {
	return &line[Up, Down]{client: client, dead: dead, holder: h, heard: w.tick}
}

func (l *line[Up, Down]) say(w *world, m Up) { l.up = append(l.up, post[Up]{w.tick + w.delay, m}) }

func (l *line[Up, Down]) tell(w *world, m Down) {
	l.down = append(l.down, post[Down]{w.tick + w.delay, m})
}

// speaks tells whether the two can speak now.
func (l *line[Up, Down]) speaks(w *world) bool { return w.joined(l.client, l.holder.host.id) }

// works tells whether the stream lives. The death of a process is seen at once where its
// host can still say so; that of a host, and a process that is stopped, by its silence.
func (l *line[Up, Down]) works(w *world) bool {
	if l.ended {
		return false
	}
	if l.speaks(w) {
		if l.dead() || l.holder.gone > 0 {
			l.ended, l.closed = true, l.dead()
			return false
		}
		if !l.holder.paused(w) {
			l.heard = w.tick
		}
	}
	if w.tick-l.heard >= silence {
		l.ended = true
		return false
	}
	return true
}

// arrived takes what has come through by now.
func arrived[T any](w *world, speaks bool, queue *[]post[T]) (out []T) {
	if !speaks {
		return nil
	}
	for len(*queue) > 0 && (*queue)[0].due <= w.tick {
		out = append(out, (*queue)[0].msg)
		*queue = (*queue)[1:]
	}
	return out
}
