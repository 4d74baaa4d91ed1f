// Package interop runs go-zookeeper against a standalone server, which `run` starts, kills and starts again.
package interop

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

// deadline bounds every single wait; the whole run is bounded by `run`.
const deadline = 20 * time.Second

var (
	address  = "127.0.0.1:" + os.Getenv("INTEROP_PORT")
	commands = os.NewFile(3, "commands")
	answers  = bufio.NewReader(os.Stdin)

	// A Java server that is just starting never answers some of the connections it accepts, and their clients
	// lose their sessions waiting; so clients of one connect only when it serves.
	starting atomic.Bool
	isDown   bool
)

func command(t *testing.T, word string) {
	t.Helper()
	if _, err := fmt.Fprintln(commands, word); err != nil {
		t.Fatal(err)
	}
	if answer, err := answers.ReadString('\n'); err != nil || answer != "done\n" {
		t.Fatalf("the script answered %q, %v to %s", answer, err, word)
	}
}

// killServer sends SIGKILL and returns when the process has ended.
func killServer(t *testing.T) {
	t.Helper()
	starting.Store(os.Getenv("INTEROP_KIND") == "java")
	command(t, "kill")
	isDown = true
	t.Cleanup(func() {
		if isDown { // the test failed before it started the server again
			startServer(t)
		}
	})
}

// startServer starts it on the same port and directory and returns when it serves.
func startServer(t *testing.T) {
	t.Helper()
	command(t, "start")
	isDown = false
	starting.Store(false)
}

// link is what a client dials through: it records the bytes of both directions of its newest connection and
// can be cut (its connection closes and no other opens) or go deaf (connections stay open, nothing passes).
type link struct {
	mutex          sync.Mutex
	changed        *sync.Cond
	isCut, isDeaf  bool
	sent, received []byte
	conn           net.Conn
}

func newLink() *link {
	l := &link{}
	l.changed = sync.NewCond(&l.mutex)
	return l
}

func (l *link) set(cut, deaf bool) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.isCut, l.isDeaf = cut, deaf
	if cut && l.conn != nil {
		l.conn.Close()
	}
	l.changed.Broadcast()
}

func (l *link) cut()  { l.set(true, false) }
func (l *link) deaf() { l.set(false, true) }
func (l *link) mend() { l.set(false, false) }

func (l *link) dial(network, address string, timeout time.Duration) (net.Conn, error) {
	l.mutex.Lock()
	for l.isDeaf {
		l.changed.Wait()
	}
	cut := l.isCut || starting.Load()
	l.mutex.Unlock()
	if cut {
		return nil, errors.New("the link is cut")
	}
	conn, err := net.DialTimeout(network, address, timeout)
	if err != nil {
		return nil, err
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.conn, l.sent, l.received = conn, nil, nil
	return &linked{Conn: conn, link: l}, nil
}

type linked struct {
	net.Conn
	link *link
}

func (c *linked) Read(to []byte) (int, error) {
	n, err := c.Conn.Read(to)
	c.link.mutex.Lock()
	defer c.link.mutex.Unlock()
	for c.link.isDeaf {
		c.link.changed.Wait()
	}
	if c.link.conn == c.Conn {
		c.link.received = append(c.link.received, to[:n]...)
	}
	return n, err
}

func (c *linked) Write(from []byte) (int, error) {
	c.link.mutex.Lock()
	if c.link.isDeaf {
		c.link.mutex.Unlock()
		return len(from), nil
	}
	c.link.sent = append(c.link.sent, from...)
	c.link.mutex.Unlock()
	return c.Conn.Write(from)
}

// frames are the whole frames that passed in one direction.
func frames(bytes []byte) [][]byte {
	var all [][]byte
	for len(bytes) >= 4 {
		n := 4 + int(binary.BigEndian.Uint32(bytes))
		if len(bytes) < n {
			break
		}
		all = append(all, bytes[4:n])
		bytes = bytes[n:]
	}
	return all
}

func (l *link) frames() (sent, received [][]byte) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return frames(l.sent), frames(l.received)
}

func xid(frame []byte) int32 { return int32(binary.BigEndian.Uint32(frame)) }

// answered counts the requests of one op that have been answered on the newest connection.
func (l *link) answered(op uint32) int {
	sent, received := l.frames()
	replies, count := map[int32]bool{}, 0
	for _, frame := range received[min(1, len(received)):] {
		replies[xid(frame)] = true
	}
	for _, frame := range sent[min(1, len(sent)):] {
		if binary.BigEndian.Uint32(frame[4:]) == op && replies[xid(frame)] {
			count++
		}
	}
	return count
}

// client is a connection that keeps its session events and is closed at the end of the test.
type client struct {
	*zk.Conn
	t      *testing.T
	link   *link
	mutex  sync.Mutex
	states []zk.State
}

func connect(t *testing.T, timeout time.Duration) *client {
	t.Helper()
	c := &client{t: t, link: newLink()}
	conn, _, err := zk.Connect([]string{address}, timeout, zk.WithDialer(c.link.dial),
		zk.WithLogger(quiet{}), zk.WithEventCallback(func(event zk.Event) {
			if event.Type == zk.EventSession {
				c.mutex.Lock()
				defer c.mutex.Unlock()
				c.states = append(c.states, event.State)
			}
		}))
	if err != nil {
		t.Fatal(err)
	}
	c.Conn = conn
	t.Cleanup(func() {
		c.link.mend()
		c.Close()
	})
	c.wait(zk.StateHasSession)
	return c
}

type quiet struct{}

func (quiet) Printf(string, ...interface{}) {}

// seen returns the session states since the last call of forget.
func (c *client) seen() []zk.State {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return append([]zk.State(nil), c.states...)
}

func (c *client) forget() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.states = nil
}

// wait waits until the client has entered a state since the last forget.
func (c *client) wait(wanted zk.State) {
	c.t.Helper()
	eventually(c.t, "the client enters "+wanted.String(), func() bool {
		for _, state := range c.seen() {
			if state == wanted {
				return true
			}
		}
		return false
	})
}

// begin makes the test's own znode and a client.
func begin(t *testing.T) (*client, string) {
	t.Helper()
	c := connect(t, 15*time.Second)
	root := "/" + t.Name()
	c.create(root, "", zk.FlagPersistent)
	return c, root
}

func (c *client) create(path, data string, flags int32) string {
	c.t.Helper()
	made, err := c.Create(path, []byte(data), flags, zk.WorldACL(zk.PermAll))
	must(c.t, err)
	return made
}

func (c *client) exists(path string) bool {
	c.t.Helper()
	found, _, err := c.Exists(path)
	must(c.t, err)
	return found
}

func (c *client) get(path string) string {
	c.t.Helper()
	data, _, err := c.Get(path)
	must(c.t, err)
	return string(data)
}

func (c *client) stat(path string) zk.Stat {
	c.t.Helper()
	found, stat, err := c.Exists(path)
	must(c.t, err)
	equal(c.t, path+" exists", found, true)
	return *stat
}

func (c *client) set(path, data string) {
	c.t.Helper()
	_, err := c.Set(path, []byte(data), -1)
	must(c.t, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t *testing.T, behaviour string, got, wanted T) {
	t.Helper()
	if got != wanted {
		t.Errorf("%s: got %v, wanted %v", behaviour, got, wanted)
	}
}

func fails(t *testing.T, behaviour string, got, wanted error) {
	t.Helper()
	if !errors.Is(got, wanted) {
		t.Errorf("%s: got %v, wanted %v", behaviour, got, wanted)
	}
}

// eventually waits for a condition and fails with the behaviour's name after the deadline.
func eventually(t *testing.T, behaviour string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", deadline, behaviour)
		}
	}
}

// event waits for the event of a one-shot watch.
func event(t *testing.T, behaviour string, watch <-chan zk.Event, kind zk.EventType, path string) {
	t.Helper()
	select {
	case got := <-watch:
		if got.Type != kind || got.Path != path {
			t.Errorf("%s: got %v of %s (%v), wanted %v of %s", behaviour, got.Type, got.Path, got.Err, kind, path)
		}
	case <-time.After(deadline):
		t.Fatalf("no event within %v: %s", deadline, behaviour)
	}
}

// silent tells that a watch has not fired; the caller has had a reply since what must not have fired it.
func silent(t *testing.T, behaviour string, watch <-chan zk.Event) {
	t.Helper()
	select {
	case got := <-watch:
		t.Errorf("%s: got %v of %s", behaviour, got.Type, got.Path)
	default:
	}
}

// together runs a function for each of n numbers at once and waits for all.
func together(t *testing.T, behaviour string, n int, function func(i int) error) {
	t.Helper()
	results := make(chan error, n)
	for i := range n {
		go func() { results <- function(i) }()
	}
	for range n {
		select {
		case err := <-results:
			if err != nil {
				t.Fatalf("%s: %v", behaviour, err)
			}
		case <-time.After(3 * deadline):
			t.Fatalf("not within %v: %s", 3*deadline, behaviour)
		}
	}
}

var _ io.ReadWriteCloser = (*linked)(nil)
