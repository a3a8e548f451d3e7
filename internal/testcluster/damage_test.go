package testcluster_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"skep/internal/testcluster"
	"skep/vfs/vfstest"
)

// A manager with a hole in its log neither votes nor serves: it says where the hole is and ends. With
// others there, it has the whole state again once it has joined anew; alone, it needs its backup.
// Fault 7 of the reliability promises.
func TestAManagerWithAFlippedBitInItsLogSaysWhereAndJoinsAnew(t *testing.T) {
	t.Parallel()
	for _, managers := range []int{1, 3} {
		t.Run(fmt.Sprintf("of %d", managers), func(t *testing.T) {
			t.Parallel()
			testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
				c.Managers(managers)
				w := c.Writers(4, c.Names()...)
				c.Wait(3 * time.Second)
				name := c.AwaitLeader() // whose log is that of all that was acknowledged
				c.Kill(name)
				file, at := flip(c, name)
				c.Restart(name)
				err := c.Machine(name).Ended(10 * time.Second)
				if err == nil {
					c.T().Fatal("swarmd runs with a hole in its log")
				}
				for _, part := range []string{file, "damaged", fmt.Sprintf("offset %d", at), "restore"} {
					if !strings.Contains(err.Error(), part) {
						c.T().Errorf("it ends with %q, which does not say %q", err, part)
					}
				}
				if managers == 1 {
					c.NoChecks() // nobody is there who could tell
					return
				}
				w.Next(testcluster.WriteGap)
				rejoin(c, name)
				w.Next(testcluster.WriteGap)
			})
		})
	}
}

// flip alters a bit of a record in the middle of a machine's log, and returns which file that is in
// and where the record begins.
func flip(c *testcluster.Cluster, name string) (file string, at int) {
	c.T().Helper()
	const header, frame = 72, 24 // of a file, of a record
	m := c.Machine(name)
	logs := m.Files("raft/log")
	file = testcluster.StateDir + "/raft/log/" + logs[len(logs)-1]
	data := vfstest.ReadFile(c.T(), m.Disk, file)
	at = header
	for range 3 { // none of the first records, and none of the last
		size := int(data[at]) | int(data[at+1])<<8 | int(data[at+2])<<16
		at += frame + size + 8 - (frame+size)%8
	}
	data[at+frame+3] ^= 4
	vfstest.WriteFile(c.T(), m.Disk, file, data)
	return file, at
}
