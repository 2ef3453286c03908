package status

import (
	"encoding/json"
	"io"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// atATime is how many deliveries the benchmarks conclude side by side.
const atATime = 16

// parallel runs f from atATime goroutines, and reports processor time beside
// the time on the wall.
func parallel(b *testing.B, f func(pb *testing.PB)) {
	b.ReportAllocs()
	b.SetParallelism(max(1, atATime/runtime.GOMAXPROCS(0)))
	before := processorTime(b)
	b.RunParallel(f)
	b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
}

// processorTime is what this process has used, user and system.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkConcluded is all that a delivery pays for its document, the write to
// a file included.
func BenchmarkConcluded(b *testing.B) {
	out, err := OpenFile(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	l := NewLog(Config{Outputs: []Output{out}, Headers: []string{"message-id"}})
	a := deliveredVerified()
	parallel(b, func(pb *testing.PB) {
		for pb.Next() {
			l.Concluded(a, 0)
		}
	})
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkWrite is what a line costs that is written alone: the system call.
// BenchmarkConcluded pays it once for all lines that are written together.
func BenchmarkWrite(b *testing.B) {
	out, err := OpenFile(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	line := Append(nil, deliveredVerified(), Options{Headers: HeaderNames("message-id")})
	before := processorTime(b)
	for b.Loop() {
		if _, err := out.Write(line); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
}

// BenchmarkAppend is the line alone, BenchmarkEncode and BenchmarkJSON are a
// document that is there already: by our encoder and by encoding/json.
func BenchmarkAppend(b *testing.B) {
	a := deliveredVerified()
	opts := Options{Headers: HeaderNames("message-id")}
	parallel(b, func(pb *testing.PB) {
		var line []byte
		for pb.Next() {
			line = Append(line[:0], a, opts)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	d := new(Builder).Build(deliveredVerified(), Options{Headers: HeaderNames("message-id")})
	parallel(b, func(pb *testing.PB) {
		var line []byte
		for pb.Next() {
			line = d.append(line[:0])
		}
	})
}

func BenchmarkJSON(b *testing.B) {
	d := new(Builder).Build(deliveredVerified(), Options{Headers: HeaderNames("message-id")})
	parallel(b, func(pb *testing.PB) {
		enc := json.NewEncoder(io.Discard)
		for pb.Next() {
			if err := enc.Encode(d); err != nil {
				b.Error(err)
			}
		}
	})
}
