package smtpwire

import (
	"strconv"
	"strings"
)

// Extensions is what the server announced in its newest reply to EHLO. The zero
// value is a server that offers nothing (HELO).
type Extensions struct {
	params map[string]string // by keyword in upper case
}

// parseExtensions reads the lines of a reply to EHLO; the first is the
// server's name (RFC 5321, section 4.1.1.1).
func parseExtensions(text string) Extensions {
	_, text, _ = strings.Cut(text, "\n")
	e := Extensions{params: make(map[string]string)}
	for line := range strings.SplitSeq(text, "\n") {
		keyword, param, _ := strings.Cut(strings.TrimSpace(line), " ")
		keyword = strings.ToUpper(keyword)
		if _, dup := e.params[keyword]; keyword != "" && !dup {
			e.params[keyword] = strings.TrimSpace(param)
		}
	}
	return e
}

// Has reports whether the keyword, in any case, was announced.
func (e Extensions) Has(keyword string) bool {
	_, ok := e.params[strings.ToUpper(keyword)]
	return ok
}

// Param returns what follows the keyword, as the server wrote it.
func (e Extensions) Param(keyword string) string {
	return e.params[strings.ToUpper(keyword)]
}

// Size returns the largest message in octets that the server takes (RFC 1870);
// 0 if it announced none.
func (e Extensions) Size() int64 {
	n, err := strconv.ParseInt(e.Param("SIZE"), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// Limits returns how many transactions a session and how many recipients a
// transaction may have (RFC 9422, MAILMAX and RCPTMAX); 0 if not announced.
func (e Extensions) Limits() (mailMax, rcptMax int) {
	for limit := range strings.FieldsSeq(e.Param("LIMITS")) {
		name, value, _ := strings.Cut(limit, "=")
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			continue
		}
		switch strings.ToUpper(name) {
		case "MAILMAX":
			mailMax = n
		case "RCPTMAX":
			rcptMax = n
		}
	}
	return mailMax, rcptMax
}
