package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// saveEvery is the least time between two writes of the cursor while there is
// more to take: what is taken twice because of it costs little.
const saveEvery = time.Second

const cursorName = "cursor"

// readCursor returns what the cursor file says, and the beginning of everything
// if it is missing or damaged.
func readCursor(dir string) Position {
	text, err := os.ReadFile(filepath.Join(dir, cursorName))
	if err != nil {
		return Position{}
	}
	var p Position
	var end byte
	if n, _ := fmt.Sscanf(string(text), "%x %d%c", &p.segment, &p.offset, &end); n != 3 || end != '\n' || p.offset < 0 || p.segment > 1<<62 {
		return Position{}
	}
	return p
}

// save replaces the cursor file. The caller holds j.mu.
func (j *Journal) save() error {
	if j.saved == j.taken {
		return nil
	}
	name := filepath.Join(j.cfg.Dir, cursorName)
	text := fmt.Appendf(nil, "%016x %d\n", j.taken.segment, j.taken.offset)
	if err := os.WriteFile(name+".new", text, 0o600); err != nil {
		return err
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	j.saved, j.savedAt = j.taken, time.Now()
	return nil
}

// commit says that everything before p was taken.
func (j *Journal) commit(p Position) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.segments) == 0 {
		return nil
	}
	j.taken = p
	last := j.segments[len(j.segments)-1]
	caughtUp := p.segment == last.number && p.offset == last.size
	if !caughtUp && p.segment == j.saved.segment && time.Since(j.savedAt) < saveEvery {
		return nil
	}
	err := j.save()
	j.removeTaken()
	return err
}

// removeTaken removes the segments before the cursor.
func (j *Journal) removeTaken() {
	for len(j.segments) > 0 && j.segments[0].number < j.taken.segment {
		if os.Remove(j.path(j.segments[0].number)) != nil {
			// It is in nobody's way; the next process tries again.
			return
		}
		j.segments = j.segments[1:]
	}
}
