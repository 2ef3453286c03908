package smtpwire

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// takeChunks is a server for large messages: it reads BDAT commands and answers the
// n-th with replies[n], then with 250, until it has accepted the last one or the
// client is gone. It returns the message and the sizes of the chunks.
func takeChunks(s *server, replies []string) (body []byte, sizes []int, err error) {
	for n := 0; ; n++ {
		line, err := s.br.ReadString('\n')
		if err != nil && n > 0 { // the client has hung up
			return body, sizes, nil
		}
		if err != nil {
			return body, sizes, err
		}
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "BDAT" {
			return body, sizes, fmt.Errorf("client sent %q", line)
		}
		size, err := strconv.Atoi(fields[1])
		if err != nil {
			return body, sizes, err
		}
		chunk := make([]byte, size)
		if _, err := io.ReadFull(s.br, chunk); err != nil {
			return body, sizes, err
		}
		body, sizes = append(body, chunk...), append(sizes, size)
		reply := "250 ok"
		if n < len(replies) {
			reply = replies[n]
		}
		if _, err := io.WriteString(s.nc, reply+"\r\n"); err != nil {
			return body, sizes, err
		}
		if len(fields) == 3 && strings.HasPrefix(reply, "2") {
			return body, sizes, nil
		}
	}
}

func TestLargeChunks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		ext     []string
		size    int
		known   bool // the size is announced
		replies []string
		want    string
		chunks  int
	}{
		{"three chunks", []string{"PIPELINING"}, 2*chunkSize + 100, false, nil, "ok", 3},
		{"size known", []string{"PIPELINING"}, 2*chunkSize + 100, true, nil, "ok", 3},
		{"stop and wait", nil, 2*chunkSize + 100, false, nil, "ok", 3},
		{"one chunk", nil, smallBody + 100, false, nil, "ok", 1},
		{"first refused", []string{"PIPELINING"}, 9 * chunkSize, false, []string{"552 5.3.4 too big", "503 what"}, "data: 552 5.3.4 too big", 2},
		{"second refused", []string{"PIPELINING"}, 9 * chunkSize, false, []string{"250 ok", "452 4.3.1 full", "503 what"}, "data: 452 4.3.1 full", 3},
		{"refused, the next one not", []string{"PIPELINING"}, 9 * chunkSize, false, []string{"452 4.3.1 full", "250 ok"}, "data: 452 4.3.1 full", 2},
		{"refused, stop and wait", nil, 9 * chunkSize, false, []string{"552 5.3.4 too big"}, "data: 552 5.3.4 too big", 1},
		{"last refused", []string{"PIPELINING"}, chunkSize + 100, false, []string{"250 ok", "554 5.6.0 virus"}, "final: 554 5.6.0 virus", 2},
		{"last but one refused", []string{"PIPELINING"}, chunkSize + 100, false, []string{"452 4.3.1 full"}, "data: 452 4.3.1 full", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client, nc := pipe(t)
			s := newServer(t, nc)
			type taken struct {
				body  []byte
				sizes []int
				err   error
			}
			done := make(chan taken, 1)
			script := hello(append(test.ext, "CHUNKING")...) + cMail + sOK + cRcptB + sOK
			if test.ext != nil {
				script = hello(append(test.ext, "CHUNKING")...) + cMail + cRcptB + sOK + sOK
			}
			go func() {
				if _, err := s.script(script); err != nil {
					done <- taken{err: err}
					return
				}
				body, sizes, err := takeChunks(s, test.replies)
				done <- taken{body, sizes, err}
			}()
			c := open(t, client, patient())
			tx := transaction("b@example.net")
			body := bytes.Repeat([]byte(".234567890123456789012345678901234567890123456789012345678901234567890\r\n"), test.size/72)
			tx.Content = message(body)
			if test.known {
				tx.Size = int64(len(body))
			}
			r := c.Send(context.Background(), tx)
			if diff := cmp.Diff([]string{test.want}, fates(r)); diff != "" || r.Err != nil || r.Clean != (test.want == "ok") {
				t.Error(diff, r.Err, r.Clean)
			}
			if !r.Clean && c.Reset(context.Background()) == nil {
				t.Error("the session goes on after a refused chunk")
			}
			got := <-done
			if got.err != nil || len(got.sizes) != test.chunks {
				t.Errorf("%d chunks, %v", len(got.sizes), got.err)
			}
			for _, n := range got.sizes {
				if n > chunkSize+slack {
					t.Errorf("chunk of %d octets", n)
				}
			}
			if test.want == "ok" && !bytes.Equal(got.body, append(tx.Header, body...)) {
				t.Error("the message arrived differently")
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
