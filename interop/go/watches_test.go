package interop

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

// armed is one watch of each kind on znodes of the test.
type armed struct {
	data, exists, missing, children <-chan zk.Event
}

// arm sets: data on /d, exists on /e, exists on /m which is missing, children on the root itself.
func arm(t *testing.T, c *client, root string) armed {
	t.Helper()
	_, _, data, err := c.GetW(root + "/d")
	must(t, err)
	_, _, exists, err := c.ExistsW(root + "/e")
	must(t, err)
	found, _, missing, err := c.ExistsW(root + "/m")
	must(t, err)
	equal(t, root+"/m is there", found, false)
	_, _, children, err := c.ChildrenW(root)
	must(t, err)
	return armed{data, exists, missing, children}
}

func (a armed) silent(t *testing.T, behaviour string) {
	t.Helper()
	for name, watch := range map[string]<-chan zk.Event{"data": a.data, "exists": a.exists, "missing": a.missing, "children": a.children} {
		silent(t, behaviour+" ("+name+" watch)", watch)
	}
}

func TestOneShotWatches(t *testing.T) {
	c, root := begin(t)
	other := connect(t, 15*time.Second)
	c.create(root+"/d", "", 0)
	c.create(root+"/e", "", 0)
	watches := arm(t, c, root)
	other.set(root, "data of the parent is no child event")
	_, err := other.SetACL(root+"/d", zk.WorldACL(zk.PermAll), -1)
	must(t, err)
	fails(t, "a refused delete", other.Delete(root+"/e", 8), zk.ErrBadVersion)
	c.exists("/") // its reply comes after any event of the above
	watches.silent(t, "nothing changed that is watched")

	other.set(root+"/d", "1")
	event(t, "set fires the data watch", watches.data, zk.EventNodeDataChanged, root+"/d")
	other.create(root+"/m", "", 0)
	event(t, "create fires the exists watch", watches.missing, zk.EventNodeCreated, root+"/m")
	event(t, "create fires the parent's child watch", watches.children, zk.EventNodeChildrenChanged, root)
	must(t, other.Delete(root+"/e", -1))
	event(t, "delete fires the exists watch", watches.exists, zk.EventNodeDeleted, root+"/e")

	before := len(c.events(t))
	other.set(root+"/d", "2")
	other.create(root+"/more", "", 0)
	c.exists("/")
	equal(t, "events after the one shots", len(c.events(t)), before)
}

// events are the notification frames that came over the wire: type and path.
func (c *client) events(t *testing.T) []string {
	t.Helper()
	_, received := c.link.frames()
	var events []string
	for _, frame := range received[1:] {
		if xid(frame) == -1 {
			kind := zk.EventType(binary.BigEndian.Uint32(frame[16:]))
			events = append(events, kind.String()+" "+string(frame[28:]))
			equal(t, "an event's state is SyncConnected", binary.BigEndian.Uint32(frame[20:]), 3)
		}
	}
	return events
}

func TestEventsComeInOrderAndBeforeTheReplyOfTheirChange(t *testing.T) {
	c, root := begin(t)
	c.create(root+"/x", "", 0)
	_, _, _, err := c.GetW(root + "/x")
	must(t, err)
	_, _, _, err = c.ChildrenW(root + "/x")
	must(t, err)
	_, _, _, err = c.ChildrenW(root)
	must(t, err)
	must(t, c.Delete(root+"/x", -1))
	_, _, _, err = c.ExistsW(root + "/y")
	must(t, err)
	_, _, _, err = c.ChildrenW(root)
	must(t, err)
	c.create(root+"/y", "", 0)
	_, received := c.link.frames()
	var order []string
	for _, frame := range received[1:] {
		if xid := xid(frame); xid == -1 {
			order = append(order, zk.EventType(binary.BigEndian.Uint32(frame[16:])).String()+" "+string(frame[28:]))
		} else if xid > 0 {
			order = append(order, "reply")
		}
	}
	wanted := []string{
		"reply", "reply", // creates of the root and of x
		"reply", "reply", "reply", // the three reads that watch
		// One delete of a znode with data and child watches is one event; then the parent's; then the reply.
		"EventNodeDeleted " + root + "/x", "EventNodeChildrenChanged " + root, "reply",
		"reply", "reply", // the two reads that watch
		"EventNodeCreated " + root + "/y", "EventNodeChildrenChanged " + root, "reply",
	}
	equal(t, "frames", len(order), len(wanted))
	for i := range min(len(order), len(wanted)) {
		equal(t, "frame", order[i], wanted[i])
	}
}

func TestAMultiFiresTheWatchesOfItsPartsInOrder(t *testing.T) {
	c, root := begin(t)
	c.create(root+"/d", "", 0)
	c.create(root+"/e", "", 0)
	arm(t, c, root)
	_, err := c.Multi(
		&zk.DeleteRequest{Path: root + "/e", Version: -1},
		&zk.SetDataRequest{Path: root + "/d", Version: -1},
		&zk.CreateRequest{Path: root + "/m", Acl: zk.WorldACL(zk.PermAll)},
	)
	must(t, err)
	got := c.events(t)
	wanted := []string{"EventNodeDeleted " + root + "/e", "EventNodeChildrenChanged " + root,
		"EventNodeDataChanged " + root + "/d", "EventNodeCreated " + root + "/m"}
	equal(t, "events", len(got), len(wanted))
	for i := range min(len(got), len(wanted)) {
		equal(t, "event", got[i], wanted[i])
	}
}

// resume runs a change while the watching client is away, and lets it come back.
func resume(t *testing.T, c *client, away func()) {
	t.Helper()
	session := c.SessionID()
	c.forget()
	c.link.cut()
	c.wait(zk.StateDisconnected)
	away()
	c.forget()
	c.link.mend()
	c.wait(zk.StateHasSession)
	equal(t, "the session is the same", c.SessionID(), session)
}

func TestWatchesCatchUpAfterAReconnection(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(map[bool]string{false: "same-server", true: "server-killed"}[restart], func(t *testing.T) {
			c := connect(t, 30*time.Second)
			other := connect(t, 30*time.Second)
			root := map[bool]string{false: "/catch-up", true: "/catch-up-killed"}[restart]
			for _, path := range []string{root, root + "/d", root + "/e", root + "/quiet"} {
				c.create(path, "", 0)
			}
			watches := arm(t, c, root)
			_, _, quietData, err := c.GetW(root + "/quiet")
			must(t, err)
			_, _, quietChildren, err := c.ChildrenW(root + "/quiet")
			must(t, err)
			_, _, quietMissing, err := c.ExistsW(root + "/quiet/missing")
			must(t, err)
			_, _, recreated, err := c.GetW(root + "/quiet")
			must(t, err)
			resume(t, c, func() {
				if restart {
					other.forget()
					killServer(t)
					startServer(t)
					other.wait(zk.StateHasSession)
				}
				other.set(root+"/d", "changed while away")
				must(t, other.Delete(root+"/e", -1))
				other.create(root+"/m", "", 0)
			})
			event(t, "the data watch catches up", watches.data, zk.EventNodeDataChanged, root+"/d")
			event(t, "the exists watch catches up", watches.exists, zk.EventNodeDeleted, root+"/e")
			event(t, "the watch for a missing znode catches up", watches.missing, zk.EventNodeCreated, root+"/m")
			event(t, "the child watch catches up", watches.children, zk.EventNodeChildrenChanged, root)
			c.exists("/")
			silent(t, "an unchanged znode's data watch", quietData)
			silent(t, "an unchanged znode's child watch", quietChildren)
			silent(t, "a still missing znode's watch", quietMissing)
			other.set(root+"/quiet", "x")
			event(t, "the data watch was armed again", quietData, zk.EventNodeDataChanged, root+"/quiet")
			event(t, "and its twin", recreated, zk.EventNodeDataChanged, root+"/quiet")
			other.create(root+"/quiet/missing", "", 0)
			event(t, "the child watch was armed again", quietChildren, zk.EventNodeChildrenChanged, root+"/quiet")
			event(t, "the watch for a missing znode was armed again", quietMissing, zk.EventNodeCreated, root+"/quiet/missing")
			must(t, other.Delete(root+"/quiet/missing", -1))
			must(t, other.Delete(root+"/quiet", -1))
		})
	}
}

func TestManyWatchesAreSentAgainInSeveralRequests(t *testing.T) {
	c, root := begin(t)
	other := connect(t, 15*time.Second)
	const number = 3000 // of paths of about 100 bytes: more than the 128 KiB that one setWatches carries
	paths := make([]string, number)
	watches := make([]<-chan zk.Event, number)
	long := root + "/a-name-of-some-length-so-that-the-paths-together-need-more-than-one-request-"
	for i := range paths {
		paths[i] = long + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676%26))
	}
	together(t, "watches", 30, func(i int) error {
		for j := i; j < number; j += 30 {
			_, _, watch, err := c.ExistsW(paths[j])
			if err != nil {
				return err
			}
			watches[j] = watch
		}
		return nil
	})
	resume(t, c, func() { other.create(paths[7], "", 0) })
	event(t, "what changed meanwhile is told", watches[7], zk.EventNodeCreated, paths[7])
	const setWatches = 101
	eventually(t, "the watches are sent in several requests", func() bool { return c.link.answered(setWatches) >= 2 })
	together(t, "creates", 30, func(i int) error {
		for j := i; j < number; j += 30 {
			if j == 7 {
				continue
			}
			if _, err := other.Create(paths[j], nil, 0, zk.WorldACL(zk.PermAll)); err != nil {
				return err
			}
		}
		return nil
	})
	for i, watch := range watches {
		if i != 7 {
			event(t, "a watch that was sent again", watch, zk.EventNodeCreated, paths[i])
		}
	}
}
