package smtpwire

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// takeChunk is a server for one large message: it reads BDAT ... LAST, answers
// with reply, and returns what came.
func takeChunk(s *server, reply string) (body []byte, err error) {
	line, err := s.br.ReadString('\n')
	if err != nil {
		return nil, err
	}
	var size int
	if n, err := fmt.Sscanf(line, "BDAT %d LAST\r\n", &size); n != 1 || err != nil {
		return nil, fmt.Errorf("client sent %q", line)
	}
	body = make([]byte, size)
	if n, err := io.ReadFull(s.br, body); err != nil {
		return body[:n], err
	}
	_, err = io.WriteString(s.nc, reply+"\r\n")
	return body, err
}

// chunkServer plays an envelope and then takes one chunk.
func chunkServer(t *testing.T, ext []string, reply string) (net.Conn, chan chunkTaken) {
	client, nc := pipe(t)
	s := newServer(t, nc)
	done := make(chan chunkTaken, 1)
	script := hello(append(ext, "CHUNKING")...) + cMail + sOK + cRcptB + sOK
	if ext != nil {
		script = hello(append(ext, "CHUNKING")...) + cMail + cRcptB + sOK + sOK
	}
	go func() {
		if _, err := s.script(script); err != nil {
			done <- chunkTaken{err: err}
			return
		}
		body, err := takeChunk(s, reply)
		done <- chunkTaken{body, err}
	}()
	return client, done
}

type chunkTaken struct {
	body []byte
	err  error
}

// A large message is one chunk, sent when the envelope stands.
func TestLargeChunk(t *testing.T) {
	t.Parallel()
	line := []byte(".234567890123456789012345678901234567890123456789012345678901234567890\r\n")
	for _, test := range []struct {
		name  string
		ext   []string
		body  []byte
		known bool // the size is announced
		reply string
		want  string
	}{
		{"pipelined", []string{"PIPELINING"}, bytes.Repeat(line, 10_000), false, "250 ok", "ok"},
		{"size known", []string{"PIPELINING"}, bytes.Repeat(line, 10_000), true, "250 ok", "ok"},
		{"stop and wait", nil, bytes.Repeat(line, 10_000), false, "250 ok", "ok"},
		{"just too large for one flight", []string{"PIPELINING"}, bytes.Repeat([]byte("x"), smallBody+1), false, "250 ok", "ok"},
		{"lone LF", []string{"PIPELINING"}, bytes.Repeat([]byte("a line\n"), 50_000), false, "250 ok", "ok"},
		{"nothing but CR", []string{"PIPELINING"}, bytes.Repeat([]byte("\r"), 200_000), true, "250 ok", "ok"},
		{"CR CR LF", []string{"PIPELINING"}, bytes.Repeat([]byte("\r\r\n\x00"), 50_000), false, "250 ok", "ok"},
		{"refused", []string{"PIPELINING"}, bytes.Repeat(line, 10_000), false, "554 5.6.0 virus", "final: 554 5.6.0 virus"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client, done := chunkServer(t, test.ext, test.reply)
			c := open(t, client, patient())
			tx := transaction("b@example.net")
			tx.Content = message(test.body)
			if test.known {
				tx.Size = int64(len(test.body))
			}
			r := c.Send(context.Background(), tx)
			if diff := cmp.Diff([]string{test.want}, fates(r)); diff != "" || r.Err != nil || r.Clean != (test.want == "ok") || !r.Written {
				t.Error(diff, r.Err, r.Clean, r.Written)
			}
			if !r.Clean && c.Reset(context.Background()) == nil {
				t.Error("the session goes on after a refused chunk")
			}
			got := <-done
			if got.err != nil || !bytes.Equal(got.body, normalised(append(tx.Header[:len(tx.Header):len(tx.Header)], test.body...))) {
				t.Errorf("%d octets arrived, or others than were sent: %v", len(got.body), got.err)
			}
		})
	}
}

// A message that is not the same when it is read again is never completed.
func TestLargeChunkChanges(t *testing.T) {
	t.Parallel()
	long := bytes.Repeat([]byte("a line\r\n"), 50_000)
	for name, second := range map[string][]byte{
		"shorter": long[:len(long)-8], "longer": append(long[:len(long):len(long)], "more\r\n"...), "gone": nil,
		"other line ends": bytes.ReplaceAll(long, []byte("\r\n"), []byte("\r \n")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, done := chunkServer(t, []string{"PIPELINING"}, "250 ok")
			c := open(t, client, patient())
			tx := transaction("b@example.net")
			tx.Size = int64(len(long))
			bodies := [][]byte{long, second}
			tx.Content = func() (io.ReadCloser, error) {
				body := bodies[0]
				bodies = bodies[1:]
				return message(body)()
			}
			r := c.Send(context.Background(), tx)
			if e := failure(t, r.Recipients[0].Err, StageBody); !errors.Is(e, errChanged) || r.Err == nil {
				t.Errorf("result %+v", r)
			}
			if got := <-done; got.err == nil {
				t.Error("the server got a whole chunk")
			}
		})
	}
}

// sink answers everything with 250, and takes messages without looking.
func sink(nc io.ReadWriter) {
	br := bufio.NewReader(nc)
	io.WriteString(nc, "220 mx\r\n")
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return
		}
		verb, size, _ := strings.Cut(strings.TrimSpace(strings.TrimSuffix(line, " LAST\r\n")), " ")
		reply := "250 ok\r\n"
		switch verb {
		case "EHLO":
			reply = "250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n"
		case "BDAT":
			n, _ := strconv.Atoi(size)
			br.Discard(n)
		}
		if _, err := io.WriteString(nc, reply); err != nil {
			return
		}
	}
}

func BenchmarkSend(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			client, nc := pipe(b)
			go sink(nc)
			ctx := context.Background()
			c, err := New(ctx, client, Config{})
			if err != nil {
				b.Fatal(err)
			}
			body := bytes.Repeat([]byte(strings.Repeat("x", 76)+"\r\n"), size/78)
			tx := transaction("b@example.net")
			tx.Content = message(body)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if r := c.Send(ctx, tx); r.Err != nil || !r.Clean {
					b.Fatal(r)
				}
			}
		})
	}
}
