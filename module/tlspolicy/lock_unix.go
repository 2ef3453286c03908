//go:build unix

package tlspolicy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lockPause is the time between two tries to get the lock. Whoever has it writes
// one row.
const lockPause = 10 * time.Millisecond

// lockDirectory keeps the other processes of this maddy (the server, the command
// line) from changing a row, until unlock is called or the process ends. It
// locks the state directory itself: a lock file would belong to whoever came
// first, perhaps to root, and keep the server out for ever.
func lockDirectory(ctx context.Context, dir string) (unlock func(), err error) {
	if dir == "" {
		return func() {}, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the state directory: %w", err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { f.Close() }, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case !errors.Is(err, syscall.EWOULDBLOCK):
			// Some network file systems have no locks. What is lost is little.
			f.Close()
			return func() {}, nil
		}
		timer := time.NewTimer(lockPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			f.Close()
			return nil, fmt.Errorf("another change takes too long: %w", ctx.Err())
		}
	}
}
