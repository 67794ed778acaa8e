package leaktest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const (
	// mark is the environment variable that all processes of the tests inherit.
	mark = "LEAKTEST_MARK"
	// grace is how long what is about to end may take: a worker whose agent was killed
	// notices it within two seconds, on a machine that is not busy.
	grace = 15 * time.Second
)

// Main runs the tests of a package, then the functions, which undo what its TestMain did,
// looks for what is left, and exits. Its caller sets nothing up in os.TempDir before it has
// called Begin.
func Main(m *testing.M, undo ...func() error) {
	Begin()
	code := m.Run()
	for _, f := range undo {
		if err := f(); err != nil {
			fmt.Fprintln(os.Stderr, "leaktest:", err)
			code = max(code, 1)
		}
	}
	if code == 0 { // a test that failed may well leave things
		if left := begun.left(grace); len(left) > 0 {
			fmt.Fprintf(os.Stderr, "leaktest: the tests left behind:\n  %s\n", strings.Join(left, "\n  "))
			code = 1
		}
	}
	if err := os.RemoveAll(begun.temp); err != nil {
		fmt.Fprintln(os.Stderr, "leaktest:", err)
	}
	os.Exit(code)
}

// Begin notes what there is before the tests. Main calls it, unless a TestMain has done so
// itself, to use os.TempDir.
func Begin() {
	if begun == nil {
		begun = begin()
	}
}

// before is what there was before the tests.
type before struct {
	mark, temp string
	open       map[string]string // descriptors
	shared     map[string]bool   // entries of /dev/shm
}

var begun *before

func begin() *before {
	temp, err := os.MkdirTemp("", "agrdist-test-")
	if err == nil {
		err = os.Chmod(temp, 0o755) // tests give files in it to other users
	}
	if err != nil {
		panic(err)
	}
	b := &before{mark: fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano()), temp: temp, open: descriptors(), shared: sharedMemory()}
	for name, value := range map[string]string{"TMPDIR": temp, mark: b.mark} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	return b
}

// left waits until nothing is left, or says what still is.
func (b *before) left(grace time.Duration) (left []string) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for by := time.Now().Add(grace); ; <-tick.C {
		left = slices.Concat(b.processes(), b.descriptors(), b.files(), b.sharedMemory())
		if err := goleak.Find(); err != nil {
			left = append(left, err.Error())
		}
		if len(left) == 0 || time.Now().After(by) {
			return left
		}
	}
}

// processes are those that carry the mark, and children that nobody has waited for.
func (b *before) processes() (left []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*") // none on other systems
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir)) // by the pattern
		if pid == os.Getpid() {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue // it has just ended
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 2 {
			continue
		}
		zombie, child := fields[0] == "Z", fields[1] == strconv.Itoa(os.Getpid())
		environ, _ := os.ReadFile(filepath.Join(dir, "environ")) // of another user, or has ended
		marked := slices.Contains(strings.Split(string(environ), "\x00"), mark+"="+b.mark)
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		name := strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
		switch {
		case zombie && child:
			left = append(left, fmt.Sprintf("process %d, which has ended and was not waited for", pid))
		case !zombie && (marked || child):
			left = append(left, fmt.Sprintf("process %d: %s", pid, name))
		}
	}
	return left
}

// descriptors are the open ones, by number, but for those that the runtime keeps.
func descriptors() map[string]string {
	open := map[string]string{}
	list, _ := os.ReadDir("/proc/self/fd") // none on other systems
	for _, e := range list {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || strings.HasPrefix(target, "/proc/") || filepath.Base(target) == "testlog.txt" || target == "anon_inode:[eventpoll]" || target == "anon_inode:[eventfd]" {
			continue // the directory itself, or the test's and the runtime's own
		}
		open[e.Name()] = target
	}
	return open
}

func (b *before) descriptors() (left []string) {
	for number, target := range descriptors() {
		if b.open[number] != target {
			left = append(left, "descriptor "+number+": "+target)
		}
	}
	slices.Sort(left)
	return left
}

// files are what is left in the tests' own TMPDIR.
func (b *before) files() (left []string) {
	list, err := os.ReadDir(b.temp)
	if err != nil {
		return []string{err.Error()}
	}
	for _, e := range list {
		left = append(left, "temporary file "+filepath.Join(b.temp, e.Name()))
	}
	return left
}

// sharedMemory are our entries in /dev/shm. Other tests may run meanwhile; what they make
// there is gone at once.
func sharedMemory() map[string]bool {
	entries := map[string]bool{}
	paths, _ := filepath.Glob("/dev/shm/agrdist-*") // none on other systems
	for _, p := range paths {
		entries[p] = true
	}
	return entries
}

func (b *before) sharedMemory() (left []string) {
	for path := range sharedMemory() {
		if !b.shared[path] {
			left = append(left, "shared memory "+path)
		}
	}
	slices.Sort(left)
	return left
}
