package interop

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

func TestHandshakeHasNoReadOnlyByte(t *testing.T) {
	c, _ := begin(t)
	sent, received := c.link.frames()
	equal(t, "length of the ConnectRequest", len(sent[0]), 44)
	equal(t, "length of the ConnectResponse", len(received[0]), 36)
	equal(t, "protocolVersion", binary.BigEndian.Uint32(received[0]), 0)
	equal(t, "negotiated timeout", binary.BigEndian.Uint32(received[0][4:]), 15000)
	equal(t, "session id", int64(binary.BigEndian.Uint64(received[0][8:])), c.SessionID())
	equal(t, "length of the password", binary.BigEndian.Uint32(received[0][16:]), 16)
	equal(t, "the password is not zero", bytes.Equal(received[0][20:], make([]byte, 16)), false)
	for _, frame := range received[1:] {
		if len(frame) < 16 {
			t.Errorf("a reply of %d bytes", len(frame))
		}
	}
}

func TestTheTimeoutIsClamped(t *testing.T) {
	for wanted, granted := range map[time.Duration]uint32{900 * time.Millisecond: 1000, 7 * time.Second: 7000, time.Hour: 60000} {
		c := connect(t, wanted)
		_, received := c.link.frames()
		equal(t, "timeout for "+wanted.String(), binary.BigEndian.Uint32(received[0][4:]), granted)
	}
}

func TestConnectionEvents(t *testing.T) {
	c, _ := begin(t)
	equal(t, "events of a connection", fmt.Sprint(c.seen()), fmt.Sprint([]zk.State{zk.StateConnecting, zk.StateConnected, zk.StateHasSession}))
	c.forget()
	c.link.cut()
	c.wait(zk.StateDisconnected)
	c.link.mend()
	c.wait(zk.StateHasSession)
	states := c.seen()
	equal(t, "first event of a lost connection", states[0], zk.StateDisconnected)
	equal(t, "last event of its return", states[len(states)-1], zk.StateHasSession)
	c.forget()
	c.Close()
	c.wait(zk.StateDisconnected)
	_, _, err := c.Get("/")
	fails(t, "a request after Close", err, zk.ErrConnectionClosed)
}

func TestCloseDeletesEphemeralsAtOnce(t *testing.T) {
	c, root := begin(t)
	other := connect(t, time.Minute)
	other.create(root+"/stays", "", 0)
	for i := range 50 {
		other.create(fmt.Sprintf("%s/e%d", root, i), "", zk.FlagEphemeral)
	}
	_, _, gone, err := c.ExistsW(root + "/e7")
	must(t, err)
	other.Close() // returns with the server's reply
	names, _, err := c.Children(root)
	must(t, err)
	equal(t, "children after the close", strings.Join(names, " "), "stays")
	event(t, "the close fires the watches", gone, zk.EventNodeDeleted, root+"/e7")
}

func TestExpiry(t *testing.T) {
	c, root := begin(t)
	silent := connect(t, 2*time.Second)
	pinging := connect(t, 2*time.Second)
	pinging.create(root+"/pinging", "", zk.FlagEphemeral)
	silent.create(root+"/silent", "", zk.FlagEphemeral)
	_, _, watch, err := silent.GetW(root)
	must(t, err)
	session := silent.SessionID()
	_, _, gone, err := c.ExistsW(root + "/silent")
	must(t, err)
	start := time.Now()
	silent.forget()
	silent.link.deaf()
	event(t, "the silent session's ephemeral goes", gone, zk.EventNodeDeleted, root+"/silent")
	if early := 2*time.Second - time.Since(start); early > time.Second {
		// The last ping was at most a third of the timeout before.
		t.Errorf("the session expired %v too early", early)
	}
	silent.link.mend()
	silent.wait(zk.StateExpired)
	event(t, "its watches are told", watch, zk.EventNotWatching, root)
	silent.wait(zk.StateHasSession)
	equal(t, "a new session follows", silent.SessionID() != session, true)
	equal(t, "pings keep an idle session", c.stat(root+"/pinging").EphemeralOwner, pinging.SessionID())
}

func TestKilledServerKeepsSessionsAndAcknowledgedWrites(t *testing.T) {
	c, root := begin(t)
	clients := make([]*client, 5)
	sessions := make([]int64, len(clients))
	stats := make([]zk.Stat, len(clients))
	for i := range clients {
		clients[i] = connect(t, 30*time.Second)
		must(t, clients[i].AddAuth("digest", []byte(fmt.Sprintf("user%d:password", i))))
		clients[i].create(fmt.Sprintf("%s/e%d", root, i), fmt.Sprint(i), zk.FlagEphemeral)
		_, err := clients[i].Create(fmt.Sprintf("%s/p%d", root, i), nil, 0, zk.AuthACL(zk.PermAll))
		must(t, err)
		sessions[i], stats[i] = clients[i].SessionID(), clients[i].stat(fmt.Sprintf("%s/e%d", root, i))
	}
	c.create(root+"/n", "", 0)
	var mutex sync.Mutex
	var acknowledged []string
	busy := make(chan int, 1000000)
	ended := make(chan error, len(clients))
	for i := range clients {
		clients[i].forget()
		go func() {
			for number := 0; ; number++ {
				path, err := clients[i].Create(root+"/n/", nil, zk.FlagSequence, zk.WorldACL(zk.PermAll))
				if err == zk.ErrConnectionClosed || err == zk.ErrNoServer {
					ended <- nil
					return
				} else if err != nil {
					ended <- err
					return
				}
				mutex.Lock()
				acknowledged = append(acknowledged, path)
				mutex.Unlock()
				busy <- i
			}
		}()
	}
	eventually(t, "the writers have written 300 znodes", func() bool { return len(busy) >= 300 })
	c.forget()
	killServer(t)
	for range clients {
		select {
		case err := <-ended:
			must(t, err)
		case <-time.After(deadline):
			t.Fatal("a writer does not notice the server's end")
		}
	}
	for _, each := range clients {
		each.wait(zk.StateDisconnected)
		each.forget()
	}
	startServer(t)
	for i, each := range clients {
		each.wait(zk.StateHasSession)
		equal(t, "the session after the restart", each.SessionID(), sessions[i])
		equal(t, "its ephemeral after the restart", each.stat(fmt.Sprintf("%s/e%d", root, i)), stats[i])
		must(t, func() error { _, _, err := each.Get(fmt.Sprintf("%s/p%d", root, i)); return err }())
	}
	c.wait(zk.StateHasSession)
	names, _, err := c.Children(root + "/n")
	must(t, err)
	present := map[string]bool{}
	for _, name := range names {
		present[root+"/n/"+name] = true
	}
	for _, path := range acknowledged {
		if !present[path] {
			t.Errorf("the acknowledged %s is lost", path)
		}
	}
	if extra := len(names) - len(acknowledged); extra > len(clients) {
		t.Errorf("%d znodes that nobody was told of, from %d writers", extra, len(clients))
	}
	sort.Strings(names)
	equal(t, "sequence numbers go on", c.create(root+"/n/", "", zk.FlagSequence) > root+"/n/"+names[len(names)-1], true)
}

func TestLock(t *testing.T) {
	_, root := begin(t)
	clients := make([]*client, 5)
	for i := range clients {
		clients[i] = connect(t, 20*time.Second)
	}
	acl := zk.WorldACL(zk.PermAll)
	inside, total := 0, 0
	together(t, "five clients with one lock", len(clients), func(i int) error {
		for range 10 {
			lock := zk.NewLock(clients[i].Conn, root+"/lock", acl)
			if err := lock.LockWithData([]byte("who")); err != nil {
				return err
			}
			inside++
			before := total
			clients[i].exists("/")
			total = before + 1
			if inside != 1 {
				return fmt.Errorf("%d holders at once", inside)
			}
			inside--
			if err := lock.Unlock(); err != nil {
				return err
			}
		}
		return nil
	})
	equal(t, "turns under the lock", total, 50)

	held := zk.NewLock(clients[0].Conn, root+"/lock", acl)
	must(t, held.Lock())
	fails(t, "a lock twice", held.Lock(), zk.ErrDeadlock)
	locked := make(chan error, 1)
	next := zk.NewLock(clients[1].Conn, root+"/lock", acl)
	const getData = 4 // by which a lock watches its predecessor
	watches := clients[1].link.answered(getData)
	go func() { locked <- next.Lock() }()
	eventually(t, "the other queues", func() bool { return clients[1].link.answered(getData) > watches })
	equal(t, "holder and waiter", clients[2].stat(root+"/lock").NumChildren, 2)
	for _, each := range clients {
		each.forget()
	}
	select {
	case err := <-locked:
		t.Fatalf("the lock was given twice (%v)", err)
	default:
	}
	// The waiter's watch on its predecessor is sent again to the restarted server.
	killServer(t)
	startServer(t)
	for _, each := range clients[:3] {
		each.wait(zk.StateHasSession)
	}
	equal(t, "holder and waiter after the restart", clients[2].stat(root+"/lock").NumChildren, 2)
	clients[0].Close()
	select {
	case err := <-locked:
		must(t, err)
	case <-time.After(deadline):
		t.Fatal("the lock does not pass on when its holder closes, after a restart")
	}
	must(t, next.Unlock())
	fails(t, "an unlock twice", next.Unlock(), zk.ErrNotLocked)
}
