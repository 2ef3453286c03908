package smtpwire

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The message of transaction() as it goes over the wire.
const (
	wireMessage = `Subject: hi\r\n\r\nhello\r\n`
	dataMessage = `! octets "` + wireMessage + `.\r\n"` + "\n"
	bdatMessage = "C: BDAT 22 LAST\n" + `! octets "` + wireMessage + `"` + "\n"
)

const (
	cMail  = "C: MAIL FROM:<a@example.com>\n"
	cRcptB = "C: RCPT TO:<b@example.net>\n"
	cRcptC = "C: RCPT TO:<c@example.net>\n"
	cData  = "C: DATA\n"
	sOK    = "S: 250 2.0.0 ok\n"
	quiet  = "! quiet\n"
)

func TestSend(t *testing.T) {
	t.Parallel()
	piped, chunked := []string{"PIPELINING"}, []string{"PIPELINING", "CHUNKING"}
	for _, test := range []struct {
		name   string
		ext    []string
		script string
		to     string
		want   []string
		broken string // the session's error
		clean  bool
	}{
		{
			"one by one", nil,
			cMail + quiet + sOK + cRcptB + quiet + sOK + cRcptC + quiet + sOK + cData + quiet + "S: 354 go\n" + dataMessage + sOK,
			"b c", []string{"ok", "ok"}, "", true,
		}, {
			"one by one, MAIL refused", nil,
			cMail + "S: 550 5.7.1 not you\n",
			"b c", []string{"mail: 550 5.7.1 not you", "mail: 550 5.7.1 not you"}, "", false,
		}, {
			"one by one, one RCPT refused", nil,
			cMail + sOK + cRcptB + "S: 450 4.2.1 later\n" + cRcptC + sOK + cData + "S: 354 go\n" + dataMessage + sOK,
			"b c", []string{"rcpt: 450 4.2.1 later", "ok"}, "", false,
		}, {
			"one by one, all RCPT refused", nil,
			cMail + sOK + cRcptB + "S: 550 no b\n" + cRcptC + "S: 551 no c\n",
			"b c", []string{"rcpt: 550 no b", "rcpt: 551 no c"}, "", false,
		}, {
			"pipelined", piped,
			cMail + cRcptB + cRcptC + cData + sOK + sOK + "S: 251 will forward\nS: 354 go\n" + dataMessage + sOK,
			"b c", []string{"ok", "ok"}, "", true,
		}, {
			"pipelined, MAIL refused, DATA refused", piped,
			cMail + cRcptB + cData + "S: 451 later\nS: 503 no mail\nS: 503 no mail\n",
			"b", []string{"mail: 451 later"}, "", false,
		}, {
			"pipelined, MAIL refused, the rest not", piped,
			cMail + cRcptB + cData + "S: 550 no\n" + sOK + "S: 354 go\n! octets \".\\r\\n\"\n" + sOK,
			"b", []string{"mail: 550 no"}, "", false,
		}, {
			"pipelined, all RCPT refused, DATA refused", piped,
			cMail + cRcptB + cRcptC + cData + sOK + "S: 550 b\nS: 450 c\nS: 554 no valid recipients\n",
			"b c", []string{"rcpt: 550 b", "rcpt: 450 c"}, "", false,
		}, {
			"pipelined, all RCPT refused, 354", piped,
			cMail + cRcptB + cData + sOK + "S: 550 b\nS: 354 go\n! octets \".\\r\\n\"\nS: 554 no valid recipients\nC: RSET\n" + sOK,
			"b reset", []string{"rcpt: 550 b"}, "", false,
		}, {
			"pipelined, DATA refused", piped,
			cMail + cRcptB + cRcptC + cData + sOK + sOK + "S: 550 c\nS: 451 4.3.0 disk\n",
			"b c", []string{"data: 451 4.3.0 disk", "rcpt: 550 c"}, "", false,
		}, {
			"message refused", piped,
			cMail + cRcptB + cRcptC + cData + sOK + sOK + "S: 452 c\nS: 354 go\n" + dataMessage + "S: 554-5.6.0 spam\nS: 554 5.6.0 really\n",
			"b c", []string{`final: 554 5.6.0 spam\nreally`, "rcpt: 452 c"}, "", false,
		}, {
			"354 to RCPT", piped,
			cMail + cRcptB + cData + sOK + "S: 354 go\n! stall\n",
			"b", []string{"rcpt: 354 go: protocol error: unexpected reply"}, "rcpt: 354 go: protocol error: unexpected reply", false,
		}, {
			"250 to DATA", piped,
			cMail + cRcptB + cData + sOK + sOK + sOK + "! stall\n",
			"b", []string{"data: 250 2.0.0 ok: protocol error: unexpected reply"}, "data: 250 2.0.0 ok: protocol error: unexpected reply", false,
		}, {
			"354 to the message", piped,
			cMail + cRcptB + cData + sOK + sOK + "S: 354 go\n" + dataMessage + "S: 354 more\n! stall\n",
			"b", []string{"final: 354 more: protocol error: unexpected reply"}, "final: 354 more: protocol error: unexpected reply", false,
		}, {
			"chunked", chunked,
			cMail + cRcptB + cRcptC + bdatMessage + sOK + sOK + sOK + "S: 250 2.0.0 queued\n",
			"b c", []string{"ok", "ok"}, "", true,
		}, {
			"chunked, not pipelined", []string{"CHUNKING"},
			cMail + quiet + sOK + cRcptB + quiet + sOK + bdatMessage + sOK,
			"b", []string{"ok"}, "", true,
		}, {
			"chunked, not pipelined, refused", []string{"CHUNKING"},
			cMail + sOK + cRcptB + "S: 550 b\n",
			"b", []string{"rcpt: 550 b"}, "", false,
		}, {
			"chunked, one RCPT refused", chunked,
			cMail + cRcptB + cRcptC + bdatMessage + sOK + "S: 550 b\n" + sOK + sOK,
			"b c", []string{"rcpt: 550 b", "ok"}, "", false,
		}, {
			"chunked, all RCPT refused", chunked,
			cMail + cRcptB + cRcptC + bdatMessage + sOK + "S: 550 b\nS: 450 c\nS: 503 no recipients\n",
			"b c", []string{"rcpt: 550 b", "rcpt: 450 c"}, "", false,
		}, {
			"chunked, MAIL refused", chunked,
			cMail + cRcptB + bdatMessage + "S: 452 4.3.1 full\nS: 503 no\nS: 503 no\n",
			"b", []string{"mail: 452 4.3.1 full"}, "", false,
		}, {
			"chunked, message refused", chunked,
			cMail + cRcptB + bdatMessage + sOK + sOK + "S: 552 5.3.4 too big\n",
			"b", []string{"final: 552 5.3.4 too big"}, "", false,
		}, {
			// A server may not accept a message for nobody; if it does, nobody got it.
			"chunked, all refused and yet accepted", chunked,
			cMail + cRcptB + bdatMessage + sOK + "S: 550 b\n" + sOK,
			"b", []string{"rcpt: 550 b"}, "", false,
		}, {
			"control characters", piped,
			cMail + cRcptB + cData + sOK + "! raw \"550 5.1.1 no\\x1b[2J \\x00\\xff user\\r\\n\"\n" + "S: 554 no\n",
			"b", []string{`rcpt: 550 5.1.1 no\x1b[2J \x00` + "\uFFFD user"}, "", false,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := open(t, dialogue(t, hello(test.ext...)+test.script), patient())
			var to []string
			reset := false
			for name := range strings.FieldsSeq(test.to) {
				if reset = name == "reset"; !reset {
					to = append(to, name+"@example.net")
				}
			}
			r := c.Send(context.Background(), transaction(to...))
			if diff := cmp.Diff(test.want, fates(r)); diff != "" {
				t.Error(diff)
			}
			broken := ""
			if r.Err != nil {
				broken = strings.TrimPrefix(r.Err.Error(), "smtp: ")
			}
			if broken != test.broken || r.Clean != test.clean || !r.Replied || r.UTF8 {
				t.Errorf("broken %q, result %+v", broken, r)
			}
			if reset {
				if err := c.Reset(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestSendFinalReply(t *testing.T) {
	t.Parallel()
	c := open(t, dialogue(t, hello("PIPELINING")+cMail+cRcptB+cData+sOK+sOK+"S: 354 go\n"+dataMessage+"S: 250 2.6.0 queued as 4F2\n"), patient())
	r := c.Send(context.Background(), transaction("b@example.net"))
	if diff := cmp.Diff(Reply{250, [3]int{2, 6, 0}, "queued as 4F2"}, r.Final); diff != "" || r.Err != nil {
		t.Error(r.Err, diff)
	}
}

// A session serves one message after the other, with RSET only where needed.
func TestSendAgain(t *testing.T) {
	t.Parallel()
	accepted := sOK + sOK + "S: 354 go\n" + dataMessage
	c := open(t, dialogue(t, hello("PIPELINING")+
		cMail+cRcptB+cData+accepted+sOK+
		cMail+cRcptB+cData+accepted+"S: 451 later\n"+
		"C: RSET\n"+sOK+
		cMail+cRcptB+cData+accepted+sOK), patient())
	ctx := context.Background()
	for i, clean := range []bool{true, false, true} {
		r := c.Send(ctx, transaction("b@example.net"))
		if r.Err != nil || r.Clean != clean || (r.Recipients[0].Err == nil) != clean {
			t.Fatalf("message %d: %+v", i, r)
		}
		if !clean {
			if err := c.Reset(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// What is in one write is in one flight.
func TestOneFlight(t *testing.T) {
	t.Parallel()
	nc := dialogue(t, hello("PIPELINING", "CHUNKING")+cMail+cRcptB+cRcptC+bdatMessage+sOK+sOK+sOK+sOK)
	c := open(t, nc, patient())
	if r := c.Send(context.Background(), transaction("b@example.net", "c@example.net")); r.Err != nil || !r.Clean {
		t.Fatal(r)
	}
	want := "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nRCPT TO:<c@example.net>\r\nBDAT 22 LAST\r\n" +
		"Subject: hi\r\n\r\nhello\r\n"
	if diff := cmp.Diff([]string{"EHLO relay.example\r\n", want}, nc.written()); diff != "" {
		t.Error(diff)
	}
}

func TestConfigDisables(t *testing.T) {
	t.Parallel()
	cfg := patient()
	cfg.NoChunking, cfg.NoPipelining = true, true
	c := open(t, dialogue(t, hello("PIPELINING", "CHUNKING")+
		cMail+quiet+sOK+cRcptB+quiet+sOK+cData+quiet+"S: 354 go\n"+dataMessage+sOK), cfg)
	if r := c.Send(context.Background(), transaction("b@example.net")); r.Recipients[0].Err != nil {
		t.Error(r.Recipients[0].Err)
	}
}

func TestMailParameters(t *testing.T) {
	t.Parallel()
	all := []string{"SIZE 1000", "8BITMIME", "SMTPUTF8", "REQUIRETLS", "DSN"}
	for _, test := range []struct {
		name       string
		ext        []string
		change     func(*Transaction)
		mail, rcpt string
	}{
		{"nothing asked", all, func(*Transaction) {}, "<a@example.com> BODY=8BITMIME", "<b@example.net>"},
		{"null sender", nil, func(t *Transaction) { t.From = "" }, "<>", "<b@example.net>"},
		{"7BIT", all, func(t *Transaction) { t.Body = "7bit" }, "<a@example.com>", "<b@example.net>"},
		{"8BITMIME not offered", nil, func(t *Transaction) { t.Body = "8BITMIME" }, "<a@example.com>", "<b@example.net>"},
		{"SIZE", []string{"SIZE"}, func(t *Transaction) { t.Size = 7000000 }, "<a@example.com> SIZE=7000000", "<b@example.net>"},
		{"SIZE not offered", nil, func(t *Transaction) { t.Size = 70 }, "<a@example.com>", "<b@example.net>"},
		{"REQUIRETLS", all, func(t *Transaction) { t.RequireTLS = true }, "<a@example.com> BODY=8BITMIME REQUIRETLS", "<b@example.net>"},
		{"SMTPUTF8", all, func(t *Transaction) {
			t.UTF8, t.Recipients[0].Address = true, "ü@bücher.example"
		}, "<a@example.com> BODY=8BITMIME SMTPUTF8", "<ü@bücher.example>"},
		{"SMTPUTF8 not offered", nil, func(t *Transaction) {
			t.UTF8, t.From, t.Recipients[0].Address = true, "a@BÜCHER.example", "b@bücher.example"
		}, "<a@xn--bcher-kva.example>", "<b@xn--bcher-kva.example>"},
		{"SMTPUTF8 not asked", all, func(t *Transaction) {
			t.Recipients[0].Address = "b@bücher.example"
		}, "<a@example.com> BODY=8BITMIME", "<b@xn--bcher-kva.example>"},
		{"DSN", []string{"DSN"}, func(t *Transaction) {
			t.Return, t.EnvelopeID = "hdrs", "QQ 314+\r\n="
			t.Recipients[0].Notify = []string{"SUCCESS", "delay"}
			t.Recipients[0].OriginalRecipient = "rfc822;Bob+tag@example.org\r\n"
		}, "<a@example.com> RET=HDRS ENVID=QQ+20314+2B+0D+0A+3D", "<b@example.net> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2Btag@example.org+0D+0A"},
		{"DSN utf-8", []string{"DSN"}, func(t *Transaction) {
			t.Recipients[0].Notify = []string{"NEVER"}
			t.Recipients[0].OriginalRecipient = `utf-8;ü\+@example.org`
		}, "<a@example.com>", `<b@example.net> NOTIFY=NEVER ORCPT=utf-8;\x{FC}\x{5C}\x{2B}@example.org`},
		{"DSN not offered", nil, func(t *Transaction) {
			t.Return, t.EnvelopeID = "HDRS", "QQ"
			t.Recipients[0].Notify = []string{"NEVER"}
			t.Recipients[0].OriginalRecipient = "rfc822;b@example.org"
		}, "<a@example.com>", "<b@example.net>"},
		{"quoted", nil, func(t *Transaction) { t.Recipients[0].Address = `"a <b> \" c"@example.net` }, "<a@example.com>", `<"a <b> \" c"@example.net>`},
		{"postmaster", nil, func(t *Transaction) { t.Recipients[0].Address = "Postmaster" }, "<a@example.com>", "<Postmaster>"},
		{"literal", nil, func(t *Transaction) { t.Recipients[0].Address = "b@[IPv6:::1]" }, "<a@example.com>", "<b@[IPv6:::1]>"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := open(t, dialogue(t, hello(test.ext...)+
				"C: MAIL FROM:"+test.mail+"\n"+sOK+"C: RCPT TO:"+test.rcpt+"\n"+sOK+cData+"S: 354 go\n"+dataMessage+sOK), patient())
			tx := transaction("b@example.net")
			test.change(tx)
			r := c.Send(context.Background(), tx)
			if r.Recipients[0].Err != nil || r.UTF8 != strings.Contains(test.mail, "SMTPUTF8") {
				t.Errorf("result %+v", r)
			}
		})
	}
}

// What can be refused here is refused without a word to the server, and the
// session goes on.
func TestRefusedLocally(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*Transaction)
		stage  Stage
		is     error
	}{
		{"too large", func(t *Transaction) { t.Size = 1001 }, StageMail, ErrTooLarge},
		{"sender", func(t *Transaction) { t.From = "a@example.com>\r\nRCPT TO:<x@example.org" }, StageMail, ErrBadAddress},
		{"sender UTF-8", func(t *Transaction) { t.UTF8, t.From = true, "ü@example.com" }, StageMail, ErrUTF8},
		{"recipient", func(t *Transaction) { t.Recipients[0].Address = "b@example.net> NOTIFY=NEVER" }, StageRcpt, ErrBadAddress},
		{"recipient UTF-8", func(t *Transaction) { t.UTF8, t.Recipients[0].Address = true, "ü@example.net" }, StageRcpt, ErrUTF8},
		{"RET", func(t *Transaction) { t.Return = "FULL BODY=7BIT" }, StageMail, ErrBadAddress},
		{"ENVID", func(t *Transaction) { t.EnvelopeID = strings.Repeat("x", 1001) }, StageMail, ErrBadAddress},
		{"NOTIFY", func(t *Transaction) { t.Recipients[0].Notify = []string{"NEVER", "DELAY"} }, StageRcpt, ErrBadAddress},
		{"NOTIFY many", func(t *Transaction) { t.Recipients[0].Notify = []string{"DELAY", "DELAY", "DELAY", "DELAY"} }, StageRcpt, ErrBadAddress},
		{"ORCPT", func(t *Transaction) { t.Recipients[0].OriginalRecipient = "rfc822 x;b" }, StageRcpt, ErrBadAddress},
		{"ORCPT without type", func(t *Transaction) { t.Recipients[0].OriginalRecipient = "b@example.net" }, StageRcpt, ErrBadAddress},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := open(t, dialogue(t, hello("SIZE 1000", "DSN")+"C: RSET\n"+sOK), patient())
			tx := transaction("b@example.net")
			test.change(tx)
			r := c.Send(context.Background(), tx)
			e := failure(t, r.Recipients[0].Err, test.stage)
			if !errors.Is(e, test.is) || e.Temporary() {
				t.Errorf("error %v, want %v", e, test.is)
			}
			if r.Err != nil || r.Replied || !r.Clean {
				t.Errorf("result %+v", r)
			}
			if err := c.Reset(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A recipient that cannot be written does not touch the others.
func TestBadRecipientAlone(t *testing.T) {
	t.Parallel()
	c := open(t, dialogue(t, hello("PIPELINING")+cMail+cRcptB+cRcptC+cData+sOK+sOK+sOK+"S: 354 go\n"+dataMessage+sOK), patient())
	r := c.Send(context.Background(), transaction("b@example.net", "ü@example.net", "x\r\ny@example.net", "c@example.net"))
	want := []string{"ok", "rcpt: address cannot be written without SMTPUTF8",
		"rcpt: address not usable in a command: control character", "ok"}
	if diff := cmp.Diff(want, fates(r)); diff != "" {
		t.Error(diff)
	}
	if !r.Clean || r.Err != nil {
		t.Errorf("result %+v", r)
	}
}

func TestNoRecipients(t *testing.T) {
	t.Parallel()
	c := open(t, dialogue(t, hello()), patient())
	if r := c.Send(context.Background(), transaction()); len(r.Recipients) != 0 || r.Err != nil || !r.Clean {
		t.Errorf("result %+v", r)
	}
}
