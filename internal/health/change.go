package health

// BreakerEvent is what happened at a breaker; the words of a metric's label.
type BreakerEvent string

// What happens at a breaker.
const (
	BreakerOpened  BreakerEvent = "opened"  // an address failed once too often
	BreakerRefused BreakerEvent = "refused" // an address must not be dialled now
	BreakerProbed  BreakerEvent = "probed"  // one dial was allowed, to see whether the address is back
	BreakerClosed  BreakerEvent = "closed"  // an address that was left alone answered
)

// BreakerEvents lists all of them.
func BreakerEvents() []BreakerEvent {
	return []BreakerEvent{BreakerOpened, BreakerRefused, BreakerProbed, BreakerClosed}
}

// BreakerChange is told of each event, and of what changed without one (Event
// is empty then): an address that nobody asks for any more is forgotten.
type BreakerChange struct {
	Event BreakerEvent
	Open  int // by how much the number of open breakers changed
}

// PlaceEvent is what happened to a delivery that wanted a place, or to a host.
type PlaceEvent string

// What happens with places.
const (
	PlaceWaited  PlaceEvent = "waited"  // no place was free, and one is waited for
	PlaceRefused PlaceEvent = "refused" // none became free in time, or too many wait already
	HostReduced  PlaceEvent = "reduced" // a host complained, and its limit is lower now
)

// PlaceEvents lists all of them.
func PlaceEvents() []PlaceEvent {
	return []PlaceEvent{PlaceWaited, PlaceRefused, HostReduced}
}

// PlaceChange is told of each event, and of what changed without one.
type PlaceChange struct {
	Event   PlaceEvent
	Waiting int // by how much the number of those who wait for a place changed
	Reduced int // by how much the number of hosts whose limit is not whole changed
}
