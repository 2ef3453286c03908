// Package journal keeps lines on disk until somebody has taken them: what is
// appended comes out once, in order, also after a crash.
//
// A journal is a directory of segments, text files with ascending numbers. A
// segment has a line for each document:
//
//	1f2e3d4c {"event":"delivered",...}
//
// The hexadecimal number is the CRC-32C of what follows the space. A crash, a
// full disk or a bad one can cut lines off or change them. Such a line is
// skipped and counted; the next newline begins a new line, so that damage never
// costs more than the lines it touches. A segment that was open when the process
// ended is not written to again.
//
// The file "cursor" says up to where lines were taken. It is replaced, never
// changed, and may be late: after a crash the last lines can come out again.
// Whoever takes them tells them apart by the id in each document. Without the
// file everything that is left comes out.
//
// Append and Sync are for one goroutine, the Reader for another.
package journal

import "errors"

// ErrFull says that the journal has as much as it may have.
var ErrFull = errors.New("the journal is full")

// MaxLine is the limit for a document, in octets. The largest that the delivery
// log makes, out of a hostile server's 32 hosts, has some 500 KiB.
const MaxLine = 1 << 20
