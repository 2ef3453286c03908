package mailtest

import (
	"strings"
	"time"
)

// classOf predicts the class that play will report.
func classOf(script, def string) byte {
	switch script {
	case "", "ok-reset", "ok-stall", "longline", "control", "dribble":
		return def[0]
	case "stall", "eof", "reset", "endless", "invalid":
		return 0
	}
	return script[0]
}

// longLine is the length of the line that "longline" sends.
const longLine = 1 << 20

// play gives a reply of the script (see Behaviour), or def where script is "".
// class is the first digit of what was said, 0 for what is no valid reply. An
// error ends the dialogue.
func (d *dialogue) play(script, def string) (class byte, err error) {
	code := def[:3]
	switch script {
	case "":
		return def[0], d.send(def)
	case "stall":
		return 0, d.hold()
	case "eof":
		if err := d.flush(); err != nil {
			return 0, err
		}
		d.hangUp()
		return 0, errEnd
	case "reset":
		if err := d.flush(); err != nil {
			return 0, err
		}
		d.reset()
		return 0, errEnd
	case "ok-reset":
		return def[0], d.sendThenReset(def)
	case "ok-stall":
		return def[0], d.hold()
	case "endless":
		return 0, d.endless(code)
	case "longline":
		return def[0], d.send(code + " " + strings.Repeat("x", longLine))
	case "control":
		return def[0], d.send(code + " 2.0.0 bell \a escape \x1b[31m null \x00 delete \x7f lone \r return")
	case "invalid":
		return 0, d.send("this is no SMTP reply")
	case "dribble":
		return def[0], d.dribble(def)
	}
	if err := d.send(script); err != nil {
		return 0, err
	}
	if strings.HasPrefix(script, "421") {
		d.close()
		return 0, errEnd
	}
	return script[0], nil
}

// send queues a reply; lines may be separated by LF.
func (d *dialogue) send(reply string) error {
	reply = strings.TrimSuffix(strings.ReplaceAll(reply, "\r\n", "\n"), "\n")
	_ = d.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := d.w.WriteString(strings.ReplaceAll(reply, "\n", "\r\n") + "\r\n")
	return err
}

// flush sends the queued replies, after the delay of the script.
func (d *dialogue) flush() error {
	if d.w.Buffered() == 0 {
		return nil
	}
	if delay := d.mx.current().Delay; delay > 0 {
		select {
		case <-time.After(delay):
		case <-d.mx.stop:
			return errEnd
		}
	}
	_ = d.conn.SetWriteDeadline(time.Now().Add(patience))
	return d.w.Flush()
}

// sendThenReset sends a reply and breaks the connection.
func (d *dialogue) sendThenReset(reply string) error {
	if err := d.send(reply); err != nil {
		return err
	}
	if err := d.flush(); err != nil {
		return err
	}
	d.reset()
	return errEnd
}

// endless writes continuation lines until the client closes or stops reading.
func (d *dialogue) endless(code string) error {
	for {
		if err := d.send(code + "-and another thing"); err != nil {
			return err
		}
	}
}

// dribble sends a reply byte by byte, one segment each.
func (d *dialogue) dribble(reply string) error {
	if err := d.flush(); err != nil {
		return err
	}
	for _, b := range []byte(strings.ReplaceAll(reply, "\n", "\r\n") + "\r\n") {
		time.Sleep(time.Millisecond)
		_ = d.conn.SetWriteDeadline(time.Now().Add(patience))
		if _, err := d.conn.Write([]byte{b}); err != nil {
			return err
		}
	}
	return nil
}
