package tlspolicy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/gofrs/flock"
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
	lock := flock.New(dir, flock.SetFlag(os.O_RDONLY))
	for {
		_, err = lock.TryLockContext(ctx, lockPause)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	var opening *fs.PathError
	switch {
	case err == nil:
		return func() { lock.Close() }, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("another change takes too long: %w", ctx.Err())
	case errors.As(err, &opening) && !errors.Is(err, syscall.EISDIR):
		return nil, fmt.Errorf("cannot lock the state directory: %w", err)
	}
	// Some network file systems have no locks, or only of what can be written, which
	// no directory can. What is lost is little.
	return func() {}, nil
}
