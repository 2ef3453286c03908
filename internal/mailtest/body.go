package mailtest

import (
	"bufio"
	"errors"
	"strconv"
	"strings"
	"time"
)

// maxChunk bounds one BDAT chunk; a larger one cannot be skipped in reasonable
// time, so the connection is closed.
const maxChunk = 1 << 30

// ready returns the reply that refuses a body now, "" if one may come.
func (d *dialogue) ready() string {
	switch {
	case d.mail == nil:
		return "503 5.5.1 MAIL first"
	case len(d.mail.message.Recipients) == 0:
		return "503 5.5.1 no valid recipients"
	}
	return ""
}

// data takes a body up to the line with the dot alone.
func (d *dialogue) data() error {
	if refusal := d.ready(); refusal != "" {
		return d.send(refusal)
	}
	if d.mail.chunks {
		return d.send("503 5.5.1 BDAT has begun")
	}
	class, err := d.step("data", "354 go ahead")
	if err != nil || class != '3' {
		return err
	}
	if err := d.flush(); err != nil {
		return err
	}
	if err := d.readDotted(); err != nil {
		return err
	}
	return d.conclude()
}

// readDotted reads lines up to CRLF.CRLF and removes stuffed dots (RFC 5321,
// 4.5.2). Only CRLF ends a line: a bare LF beside a dot is content.
func (d *dialogue) readDotted() error {
	read := 0
	lineStart, last := true, byte(0)
	for {
		_ = d.conn.SetReadDeadline(time.Now().Add(patience))
		part, err := d.r.ReadSlice('\n')
		read += len(part)
		if err := d.disturb(read); err != nil {
			return err
		}
		if lineStart && string(part) == ".\r\n" {
			return nil
		}
		if lineStart && len(part) > 0 && part[0] == '.' {
			d.keep(part[1:])
		} else {
			d.keep(part)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			d.close()
			return err
		}
		// A part ends at LF or where the buffer is full, perhaps between CR and LF.
		if n := len(part); n >= 2 {
			last = part[n-2]
		}
		lineStart = err == nil && last == '\r'
		last = part[len(part)-1]
	}
}

// bdat takes one chunk (RFC 3030). A chunk is read even where it is refused.
func (d *dialogue) bdat(rest string) error {
	fields := strings.Fields(rest)
	if _, ok := d.announced("CHUNKING"); !ok || len(fields) == 0 || len(fields) > 2 {
		return d.send("501 5.5.4 BDAT size [LAST] is expected, and CHUNKING")
	}
	size, err := strconv.ParseUint(fields[0], 10, 62)
	if err != nil || size > maxChunk {
		_ = d.send("501 5.5.4 bad chunk size")
		d.close()
		return errEnd
	}
	refusal := d.ready()
	if err := d.readChunk(int(size), refusal == ""); err != nil {
		return err
	}
	if refusal != "" {
		return d.send(refusal)
	}
	d.mail.chunks, d.mail.message.Chunking = true, true
	if len(fields) == 2 && strings.EqualFold(fields[1], "LAST") {
		return d.conclude()
	}
	class, err := d.step("bdat", "250 2.0.0 chunk taken")
	if class != '2' {
		d.mail = nil
	}
	return err
}

func (d *dialogue) readChunk(size int, wanted bool) error {
	buffer := make([]byte, min(size, 32<<10))
	for read := 0; read < size; {
		if d.r.Buffered() == 0 {
			if err := d.flush(); err != nil {
				return err
			}
		}
		_ = d.conn.SetReadDeadline(time.Now().Add(patience))
		n, err := d.r.Read(buffer[:min(len(buffer), size-read)])
		read += n
		if wanted {
			d.keep(buffer[:n])
			if err := d.disturb(d.mail.message.Size); err != nil {
				return err
			}
		}
		if err != nil {
			d.close()
			return err
		}
	}
	return nil
}

// disturb breaks the connection where the script wants it broken in the body.
func (d *dialogue) disturb(read int) error {
	b := d.mx.current()
	switch {
	case b.ResetInBody > 0 && read >= b.ResetInBody:
		d.reset()
		return errEnd
	case b.StallInBody > 0 && read >= b.StallInBody:
		return d.freeze()
	}
	return nil
}

// freeze neither reads nor writes, so that the client's window fills up, until
// the host is closed or its patience ends.
func (d *dialogue) freeze() error {
	select {
	case <-d.mx.stop:
	case <-time.After(patience):
	}
	return errEnd
}

// keep adds to the body within the bounds.
func (d *dialogue) keep(p []byte) {
	m := &d.mail.message
	m.Size += len(p)
	if d.mail.overflow = d.mail.overflow || m.Size > maxMessageBytes; d.mail.overflow {
		m.Data = nil
		return
	}
	if !d.mx.current().DiscardData {
		m.Data = append(m.Data, p...)
	}
}

// conclude answers a whole body. It is booked before the reply goes out, so that
// a client that has read the reply finds the message in the record.
func (d *dialogue) conclude() error {
	b := d.mx.current()
	finished := d.mail
	d.mail = nil
	if finished.overflow {
		return d.send("552 5.3.4 message too big")
	}
	script := b.scripted("body", d.tlsState != nil)
	if classOf(script, "250 2.0.0 accepted") == '2' {
		d.messages++
		d.mx.accepted(finished.message, b.DiscardData)
	}
	_, err := d.play(script, "250 2.0.0 accepted")
	return err
}
