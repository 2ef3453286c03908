package smtpwire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What a server may send in one reply. RFC 5321, section 4.5.3.1.5 has 512
// octets a line; real servers exceed that with URLs, none needs more than this.
const (
	maxLineText   = 4 << 10   // kept of one line
	maxLine       = 64 << 10  // longer ones are an attack
	maxReplyLines = 128       // EHLO replies have 10 to 20
	maxReply      = 128 << 10 // all lines together
	maxText       = 2 << 10   // Reply.Text
	keepText      = 8 << 10   // a larger line buffer is not kept between replies
)

// Reply is one reply of the server, of one or several lines (RFC 5321, section 4.2).
type Reply struct {
	Code int
	// Enhanced is the enhanced status code (RFC 3463); zero if there is none, or
	// one whose class is not that of Code.
	Enhanced [3]int
	// Text is the text of the lines joined by \n, without the enhanced code, at
	// most 2 KiB. It is as the server sent it, control characters included; only
	// invalid UTF-8 was replaced. Escape it before it goes anywhere.
	Text string
}

// String returns the reply in one line of printable text.
func (r Reply) String() string {
	s := strconv.Itoa(r.Code)
	if r.Enhanced != [3]int{} {
		s += fmt.Sprintf(" %d.%d.%d", r.Enhanced[0], r.Enhanced[1], r.Enhanced[2])
	}
	if r.Text != "" {
		s += " " + escape(r.Text)
	}
	return s
}

// Positive reports whether the command was carried out (2xx).
func (r Reply) Positive() bool { return r.Code/100 == 2 }

// Temporary reports whether the command may succeed later (4xx).
func (r Reply) Temporary() bool { return r.Code/100 == 4 }

// Permanent reports whether the command must not be repeated unchanged (5xx).
func (r Reply) Permanent() bool { return r.Code/100 == 5 }

// replyReader reads replies one after the other into one buffer, so that the
// common 250 costs no allocation; reply makes a Reply of the newest when
// somebody wants to see it.
type replyReader struct {
	code int
	text []byte // the lines without their codes, joined by \n, each cut at maxLineText
	got  bool   // a byte was read since this was last cleared
}

// read consumes one whole reply. io.EOF means that there was not one byte.
func (p *replyReader) read(br *bufio.Reader) (int, error) {
	if cap(p.text) > keepText {
		p.text = nil
	}
	p.text, p.code = p.text[:0], 0
	total := 0
	for lines := 1; lines <= maxReplyLines; lines++ {
		start := len(p.text)
		n, err := p.readLine(br)
		total += n
		if err == io.EOF && total > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err == nil && total > maxReply {
			err = ErrReplyTooLong
		}
		if err != nil {
			return 0, err
		}
		code, more, err := parseCode(p.text[start:])
		if err != nil {
			return 0, err
		}
		if p.code != 0 && code != p.code {
			return 0, fmt.Errorf("%w: %d and %d in one reply", ErrProtocol, p.code, code)
		}
		p.code = code
		p.text = append(p.text[:start], p.text[min(start+4, len(p.text)):]...)
		if !more {
			return code, nil
		}
		p.text = append(p.text, '\n')
	}
	return 0, ErrReplyTooLong
}

// readLine appends one line to p.text without its ending, CRLF or a bare LF,
// and returns the number of octets read.
func (p *replyReader) readLine(br *bufio.Reader) (n int, err error) {
	room := maxLineText
	for {
		part, err := br.ReadSlice('\n')
		n += len(part)
		p.got = p.got || len(part) > 0
		if n > maxLine {
			return n, ErrReplyTooLong
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return n, err
		}
		if err == nil {
			part = part[:len(part)-1]
		}
		kept := min(len(part), room)
		p.text = append(p.text, part[:kept]...)
		room -= kept
		if err == nil {
			if kept == len(part) && n > 1 && len(p.text) > 0 && p.text[len(p.text)-1] == '\r' {
				p.text = p.text[:len(p.text)-1]
			}
			return n, nil
		}
	}
}

// parseCode takes a line apart: "250-more", "250 last", "250".
func parseCode(line []byte) (code int, more bool, err error) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !isDigit(line[1]) || !isDigit(line[2]) {
		return 0, false, fmt.Errorf("%w: no reply code in %q", ErrProtocol, line[:min(len(line), 64)])
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	if len(line) == 3 {
		return code, false, nil
	}
	switch line[3] {
	case ' ':
		return code, false, nil
	case '-':
		return code, true, nil
	}
	return 0, false, fmt.Errorf("%w: no reply code in %q", ErrProtocol, line[:min(len(line), 64)])
}

// reply returns the reply that was read last.
func (p *replyReader) reply() Reply {
	r := Reply{Code: p.code}
	var b strings.Builder
	rest := p.text
	for first := true; b.Len() <= maxText; first = false {
		line, tail, more := bytes.Cut(rest, []byte{'\n'})
		enhanced, n := parseEnhanced(p.code, line)
		if first {
			r.Enhanced = enhanced
		}
		// RFC 2034, section 4: the code is on every line, and the same.
		if n > 0 && enhanced == r.Enhanced {
			line = line[n:]
		}
		b.Write(line)
		if !more {
			break
		}
		b.WriteByte('\n')
		rest = tail
	}
	r.Text = cutText(strings.ToValidUTF8(b.String(), "\uFFFD"))
	return r
}

// cutText shortens s to maxText octets without cutting a character in two.
func cutText(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// parseEnhanced reads "5.7.1 " at the start of a line and returns its length;
// 0 if there is none. A class other than that of the basic code (RFC 2034,
// section 4) means that the server is confused: then the basic code stands alone.
func parseEnhanced(code int, line []byte) (enhanced [3]int, n int) {
	class := code / 100
	if class == 3 || len(line) < 5 || line[0] != byte('0'+class) || line[1] != '.' {
		return [3]int{}, 0
	}
	subject, i := digits(line, 2)
	if i == 2 || i >= len(line) || line[i] != '.' {
		return [3]int{}, 0
	}
	detail, end := digits(line, i+1)
	if end == i+1 || end < len(line) && line[end] != ' ' {
		return [3]int{}, 0
	}
	return [3]int{class, subject, detail}, min(end+1, len(line))
}

// digits reads up to three digits from line[i:] and returns where they end.
func digits(line []byte, i int) (value, end int) {
	for end = i; end < len(line) && end < i+3 && isDigit(line[end]); end++ {
		value = value*10 + int(line[end]-'0')
	}
	return value, end
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }
