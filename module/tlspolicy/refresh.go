package tlspolicy

import (
	"context"
	"fmt"
	"time"
)

// A relay asks the table for a domain when it has mail of it. Of a change that
// another relay or the command line made since, it would know nothing when the
// table fails, and could send in clear what must not be sent so any more. So it
// asks again, twice a minute, for the domains that had mail lately, as long as the
// table answers: what counts during an outage is what the table said at its
// beginning, but for a minute.

const (
	// refreshEvery is the time between two refreshes. What was asked for since the one
	// before waits for the next: what is known gets twice as old while the table
	// answers.
	refreshEvery = 30 * time.Second
	// refreshPause is between two questions: many domains make no table busier. What
	// is not asked for in one refresh is so in the next, those with a row first.
	refreshPause = 20 * time.Millisecond
)

// startRefresh begins to keep fresh what is known. Close ends it.
func (m *Module) startRefresh(every time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	m.stopRefresh = func() {
		cancel()
		<-ended
	}
	go func() {
		defer close(ended)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				m.refresh(ctx)
			case <-ctx.Done():
				return
			}
		}
	}()
}

// refresh asks once for the domains of which too old things are known, for as long
// as it takes for more to become so. The first question without an answer ends it:
// the table is away, and what is known stays.
func (m *Module) refresh(ctx context.Context) {
	defer func() {
		if p := recover(); p != nil {
			m.log.Msg("panic while the domains table was asked again", "reason", fmt.Sprint(p))
		}
	}()
	m.tellUntold(m.changes.rest(m.last.now()))
	ends := m.last.now().Add(refreshEvery)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for _, domain := range m.last.stale(refreshEvery) {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		if !m.last.now().Before(ends) {
			return
		}
		asking, cancel := context.WithTimeout(ctx, m.last.patience)
		started := m.last.now()
		row, err := m.ask(asking, domain)
		silent := asking.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil && silent {
			m.last.rest() // so that no message waits to find out
		}
		m.learn(domain, row, err, started)
		if err != nil && !err.Broken {
			return
		}
		pause.Reset(refreshPause)
	}
}

// Close ends what Init started. Decisions can still be asked for.
func (m *Module) Close() error {
	if m.stopRefresh != nil {
		m.stopRefresh()
	}
	m.tellUntold(m.changes.end())
	return nil
}
