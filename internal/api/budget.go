package api

import (
	"math"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// maxBudgets is how many keys have one at a time.
const maxBudgets = 65536

// budget is what one key may use. A client that asks too often, or sends its
// messages slowly, must leave room for the others.
type budget struct {
	pace   *rate.Limiter
	places *semaphore.Weighted // half of those of all keys
	memory memory              // half of that of all keys, or one message
	turns  *semaphore.Weighted // of a key that reads one domain (own.go)
	line   *semaphore.Weighted // before them
	// together are the turns of all keys that read one domain.
	together *semaphore.Weighted
}

// budgets are those of the keys that were used lately.
type budgets struct {
	limit           rate.Limit
	places, message int64
	together        *semaphore.Weighted
	keys            *lru.Cache[string, *budget]
}

// newBudgets makes them, of so many requests in a second and places for each key,
// whose largest message has so many octets.
func newBudgets(perSecond float64, places, message int64) *budgets {
	c, err := lru.New[string, *budget](maxBudgets)
	if err != nil {
		panic(err) // the size is a constant
	}
	return &budgets{rate.Limit(perSecond), places, message, semaphore.NewWeighted(ownTogether), c}
}

// of returns the budget of a key.
func (s *budgets) of(id string) *budget {
	if b, ok := s.keys.Get(id); ok {
		return b
	}
	fresh := &budget{
		pace:     rate.NewLimiter(s.limit, max(1, int(math.Ceil(float64(s.limit))))),
		places:   semaphore.NewWeighted(s.places),
		memory:   newMemory(2, s.message),
		turns:    semaphore.NewWeighted(ownTurns),
		line:     semaphore.NewWeighted(ownLine),
		together: s.together,
	}
	if b, ok, _ := s.keys.PeekOrAdd(id, fresh); ok {
		return b // somebody else was faster
	}
	return fresh
}

// enter counts a request. It returns how to end it.
func (b *budget) enter() (leave func(), err error) {
	if !b.pace.Allow() {
		return nil, tooMany("Too many requests with this key",
			time.Duration((1-b.pace.Tokens())/float64(b.pace.Limit())*float64(time.Second)))
	}
	if !b.places.TryAcquire(1) {
		return nil, tooMany("Too many requests at a time with this key", time.Second)
	}
	return func() { b.places.Release(1) }, nil
}
