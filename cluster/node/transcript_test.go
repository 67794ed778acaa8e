package node

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/cluster"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the transcripts in testdata")

// TestTranscripts plays testdata/*.txt. A line that is not indented is an input,
// "TIME COMMAND ARGUMENT...", the indented lines under it are what the machine
// answers. Up to TIME the machine ticks every 100 ms. In values, _ stands for a
// space. With -rewrite the answers are written again.
//
//	config KEY=VALUE...               first line only; slots=N elastic=true founder=true after=D
//	gossip NODE[=HOST:PORT@TERM]... [NODE=lost] [NODE=over]
//	                                  who is alive, who holds a coordinator, who went
//	                                  without a word, and who says the run is over
//	admitted | lost TEXT              the session began | ended for good
//	ended OUTCOME [code=N] [step=N]
//	exit SLOT [code=N] [signal=S] [message=M]
//	startfailed SLOT TEXT [hopeless=true]
//	verdict SLOT restart=true|false [after=D] [error=TEXT]    on its last report
//	kill SLOT | killother SLOT        of the present incarnation | of an earlier one
//	signal NAME | served [TEXT] | probed [TEXT] | waiting TEXT | drained | tick
//	formed NUMBER                     a generation with this node alone
//	seen STEP [gen=N] [commit=N] [order=NODE,NODE] [state=S] [out=REASON]
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	defer func() {
		if flag.Lookup("test.run").Value.String() == "" {
			requireAll(t)
		}
	}()
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			got := play(t, string(raw))
			if *rewrite {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
				return
			}
			require.Empty(t, cmp.Diff(string(raw), got), "run `go test ./cluster/node -rewrite` if the change is meant")
		})
	}
}

// seen counts the events and actions of all transcripts, by type.
var seen = map[string]int{}

// requireAll requires that the transcripts together have every event and action.
func requireAll(t *testing.T) {
	t.Helper()
	for _, v := range []any{
		Gossip{},
		Admitted{},
		Ended{},
		SessionLost{},
		Exited{},
		StartFailed{},
		Judged{},
		KillOrdered{},
		Signalled{},
		Seen{},
		Drained{},
		Formed{},
		Waiting{},
		Probed{},
		ServerStopped{},
		Tick{},
		Point{},
		Probe{},
		Hold{},
		Keep{},
		Release{},
		Announce{},
		Start{},
		Kill{},
		Terminate{},
		KillAll{},
		Report{},
		RequestStop{},
		Drain{},
		Notice{},
		Return{},
	} {
		require.Positive(t, seen[fmt.Sprintf("%T", v)], "no transcript has a %T", v)
	}
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

type player struct {
	t       *testing.T
	cfg     Config
	m       *Machine
	now     time.Time
	out     strings.Builder
	members map[int]cluster.MemberID
	reports map[int]cluster.Exit
	over    bool
}

func play(t *testing.T, script string) string {
	t.Helper()
	p := &player{t: t, cfg: DefaultConfig(), now: epoch, members: map[int]cluster.MemberID{}, reports: map[int]cluster.Exit{}}
	p.cfg.Node, p.cfg.Boot = "n1", "b"
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "  "): // an answer: written again
		case line == "" || strings.HasPrefix(line, "#"):
			fmt.Fprintln(&p.out, line)
		default:
			p.input(line, strings.Fields(line))
		}
	}
	return p.out.String()
}

func (p *player) input(line string, f []string) {
	if f[0] == "config" {
		fmt.Fprintln(&p.out, line)
		_, keys := split(f[1:])
		for k, v := range keys {
			p.set(k, v)
		}
		return
	}
	if p.m == nil {
		var err error
		p.m, err = New(p.cfg, epoch)
		require.NoError(p.t, err)
		p.record(p.m.Step(epoch))
	}
	at, err := time.ParseDuration(f[0])
	require.NoError(p.t, err, f)
	for to := epoch.Add(at); p.now.Before(to); {
		p.now = p.now.Add(100 * time.Millisecond)
		if p.now.After(to) {
			p.now = to
		}
		p.record(p.m.Step(p.now, Tick{}))
	}
	fmt.Fprintln(&p.out, line)
	e := p.event(f[1], f[2:])
	seen[fmt.Sprintf("%T", e)]++
	p.record(p.m.Step(p.now, e))
}

func (p *player) set(key, value string) {
	switch key {
	case "slots":
		p.cfg.Slots = p.int(value)
	case "elastic":
		p.cfg.Elastic = value == "true"
	case "founder":
		p.cfg.Founder = value == "true"
	case "after":
		d, err := time.ParseDuration(value)
		require.NoError(p.t, err)
		p.cfg.FoundAfter = d
	default:
		p.t.Fatalf("unknown setting %q", key)
	}
}

func (p *player) event(command string, f []string) Event {
	args, keys := split(f)
	text := strings.ReplaceAll(strings.Join(args, " "), "_", " ")
	switch command {
	case "gossip":
		return p.gossip(f)
	case "admitted":
		return Admitted{}
	case "lost":
		return SessionLost{errors.New(text)}
	case "ended":
		e := cluster.End{Reason: "because", ExitCode: p.int(keys["code"]), Step: int64(p.int(keys["step"]))}
		for _, o := range []cluster.Outcome{cluster.OutcomeFinished, cluster.OutcomeStopped, cluster.OutcomeFailed} {
			if o.String() == args[0] {
				e.Outcome = o
			}
		}
		return Ended{e}
	case "exit":
		e := Exited{Slot: p.int(args[0]), Code: p.int(keys["code"]), Signal: keys["signal"], Message: keys["message"]}
		e.Failed = e.Code != 0 || e.Signal != ""
		e.Reason = fmt.Sprintf("worker-%d exited (%s)", e.Slot, strings.Join(f[1:], " "))
		return e
	case "startfailed":
		return StartFailed{Slot: p.int(args[0]), Err: errors.New(strings.Join(args[1:], " ")), Hopeless: keys["hopeless"] == "true"}
	case "verdict":
		j := Judged{Exit: p.reports[p.int(args[0])]}
		j.Verdict.Restart = keys["restart"] == "true"
		if keys["after"] != "" {
			var err error
			j.Verdict.After, err = time.ParseDuration(keys["after"])
			require.NoError(p.t, err)
		}
		if keys["error"] != "" {
			j.Err = errors.New(keys["error"])
		}
		return j
	case "kill", "killother":
		slot := p.int(args[0])
		k := cluster.Kill{Reason: "it hung", Member: cluster.Member{ID: p.members[slot], Node: p.cfg.Node, Slot: slot}}
		if command == "killother" {
			k.Member.ID = "n1/0/other"
		}
		return KillOrdered{k}
	case "signal":
		return Signalled{text}
	case "drained":
		return Drained{}
	case "seen":
		s := cluster.Status{
			Step: int64(p.int(args[0])), Generation: cluster.Generation{Number: uint64(p.int(keys["gen"]))},
			CommitGeneration: uint64(p.int(keys["commit"])), State: cluster.State(keys["state"]),
		}
		for name := range strings.SplitSeq(keys["order"], ",") {
			if name != "" {
				s.Generation.Members = append(s.Generation.Members, cluster.Member{Node: name})
				a := cluster.AgentStatus{Node: name}
				if name == p.cfg.Node {
					a.KeptOut = keys["out"]
				}
				s.Agents = append(s.Agents, a)
			}
		}
		return Seen{s}
	case "formed":
		return Formed{cluster.Generation{Number: uint64(p.int(args[0])), Members: []cluster.Member{{Node: p.cfg.Node}}}}
	case "waiting":
		return Waiting{text}
	case "probed":
		if text != "" {
			return Probed{errors.New(text)}
		}
		return Probed{}
	case "served":
		if text != "" {
			return ServerStopped{errors.New(text)}
		}
		return ServerStopped{}
	case "tick":
		return Tick{}
	}
	p.t.Fatalf("unknown command %q", command)
	return nil
}

func (p *player) gossip(f []string) Event {
	var g Gossip
	for _, s := range f {
		name, holds, _ := strings.Cut(s, "=")
		peer := Peer{Node: name, Self: name == p.cfg.Node}
		switch holds {
		case "":
		case "lost":
			g.Lost = append(g.Lost, name)
			continue
		case "over":
			peer.End = cluster.End{Outcome: cluster.OutcomeFinished, Step: 20, Reason: "step 20, the last, is done"}
		default:
			addr, term, _ := strings.Cut(holds, "@")
			peer.Coordinator, peer.Term = addr, uint64(p.int(term))
		}
		g.Peers = append(g.Peers, peer)
	}
	return g
}

func (p *player) record(actions []Action) {
	require.False(p.t, p.over && len(actions) > 0, "nothing comes after Return: %v", actions)
	for _, a := range actions {
		seen[fmt.Sprintf("%T", a)]++
		fmt.Fprintf(&p.out, "  %s %s\n", p.now.Sub(epoch), p.describe(a))
	}
}

func (p *player) describe(a Action) string {
	switch a := a.(type) {
	case Point:
		return "point to " + a.Addr
	case Hold:
		text := fmt.Sprintf("hold the coordinator, term %d", a.Term)
		if a.Begin {
			text += ", and may begin the run"
		}
		if a.Seen.Last.Number > 0 {
			var issued []uint64
			for _, g := range a.Seen.Issued {
				issued = append(issued, g.Number)
			}
			text += fmt.Sprintf(", generation %d, committed by %d, since then %v, ended %t", a.Seen.Last.Number, a.Seen.Base.Number, issued, a.Seen.Ended)
		}
		if len(a.Silent) > 0 {
			text += ", without " + strings.Join(a.Silent, " ")
		}
		return text
	case Probe:
		return "probe " + a.Addr
	case Keep:
		text := fmt.Sprintf("keep that generation %d was seen", a.Seen.Last.Number)
		if a.Seen.End.Outcome != cluster.OutcomeNone {
			text += ", and the end"
		}
		return text
	case Release:
		return "release the coordinator"
	case Announce:
		return "announce the end: " + a.End.Outcome.String()
	case Start:
		p.members[a.Slot] = a.Member
		return fmt.Sprintf("start %d as %s", a.Slot, a.Member)
	case Kill:
		return fmt.Sprintf("kill %d", a.Slot)
	case Terminate:
		return "SIGTERM to all workers"
	case KillAll:
		return "SIGKILL to all workers"
	case Report:
		p.reports[a.Exit.Slot] = a.Exit
		return fmt.Sprintf("report %s: %s", a.Exit.Member, a.Exit)
	case Drain:
		return "ask to leave the run"
	case RequestStop:
		return "request a stop: " + a.Reason
	case Notice:
		return "notice: " + a.Text
	case Return:
		p.over = true
		if a.Err != nil {
			return "return error: " + a.Err.Error()
		}
		return fmt.Sprintf("return %s, exit code %d, step %d: %s", a.End.Outcome, a.End.ExitCode, a.End.Step, a.End.Reason)
	}
	p.t.Fatalf("unknown action %T", a)
	return ""
}

// int reads a number; nothing is 0.
func (p *player) int(s string) int {
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	require.NoError(p.t, err)
	return n
}

func split(f []string) (args []string, keys map[string]string) {
	keys = map[string]string{}
	for _, s := range f {
		if k, v, ok := strings.Cut(s, "="); ok {
			keys[k] = strings.ReplaceAll(v, "_", " ")
		} else {
			args = append(args, s)
		}
	}
	return args, keys
}
