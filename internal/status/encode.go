package status

import (
	"encoding/hex"
	"net/netip"
	"strconv"
	"sync"

	"tlscontrol/internal/delivery"
)

// Append appends the document of one attempt to dst: one line with its
// newline, whatever the strings in it hold.
func Append(dst []byte, a *delivery.Attempt, opts Options) []byte {
	b := builders.Get().(*Builder)
	defer b.release()
	return append(b.Build(a, opts).append(dst), '\n')
}

var builders = sync.Pool{New: func() any { return new(Builder) }}

// release lets go of the attempt, which would else be kept in memory.
func (b *Builder) release() {
	b.reset()
	builders.Put(b)
}

// encoder writes the fields of a document by hand: a document is written for
// every recipient, and encoding/json takes four times as long and allocates.
// It has one method for each type that occurs; opt... leave a field out that is
// unknown. The document itself is in encode_document.go.
type encoder struct {
	b []byte
	// more is set when a comma must stand before the next field or element.
	more bool
}

func (e *encoder) begin()      { e.open('{') }
func (e *encoder) end()        { e.close('}') }
func (e *encoder) beginArray() { e.open('[') }
func (e *encoder) endArray()   { e.close(']') }

func (e *encoder) open(bracket byte)  { e.b, e.more = append(e.b, bracket), false }
func (e *encoder) close(bracket byte) { e.b, e.more = append(e.b, bracket), true }

// comma separates what follows from what stands before it in the same object
// or array.
func (e *encoder) comma() {
	if e.more {
		e.b = append(e.b, ',')
	}
	e.more = true
}

// key begins a field. name needs no escaping.
func (e *encoder) key(name string) {
	e.comma()
	b := append(e.b, '"')
	b = append(b, name...)
	e.b = append(b, '"', ':')
}

func (e *encoder) text(name, v string) {
	e.key(name)
	e.b = appendString(e.b, v)
}

func (e *encoder) optText(name, v string) {
	if v != "" {
		e.text(name, v)
	}
}

func (e *encoder) optInt(name string, v int64) {
	if v != 0 {
		e.key(name)
		e.b = strconv.AppendInt(e.b, v, 10)
	}
}

func (e *encoder) bool(name string, v bool) {
	e.key(name)
	e.b = strconv.AppendBool(e.b, v)
}

func (e *encoder) optBool(name string, v *bool) {
	if v != nil {
		e.bool(name, *v)
	}
}

func (e *encoder) hex(name string, v []byte) {
	e.key(name)
	e.b = append(e.b, '"')
	e.b = hex.AppendEncode(e.b, v)
	e.b = append(e.b, '"')
}

func (e *encoder) timestamp(name string, v Timestamp) {
	e.key(name)
	e.b = v.append(e.b)
}

func (e *encoder) moment(name string, v Moment) {
	e.key(name)
	e.b = append(e.b, '"')
	e.b = v.append(e.b)
	e.b = append(e.b, '"')
}

func (e *encoder) optSeconds(name string, v *Seconds) {
	if v != nil {
		e.key(name)
		e.b = v.append(e.b)
	}
}

func (e *encoder) optCode(name string, v EnhancedCode) {
	if v != (EnhancedCode{}) {
		e.key(name)
		e.b = append(e.b, '"')
		e.b = v.append(e.b)
		e.b = append(e.b, '"')
	}
}

func (e *encoder) optAddress(name string, v netip.Addr) {
	switch {
	case !v.IsValid():
	case v.Zone() != "": // may hold anything
		e.text(name, v.String())
	default:
		e.key(name)
		e.b = append(e.b, '"')
		e.b = v.AppendTo(e.b)
		e.b = append(e.b, '"')
	}
}
