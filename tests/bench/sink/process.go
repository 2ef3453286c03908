package sink

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"time"

	"tlscontrol/internal/mailtest"
)

// environment tells a process that it is the sink.
const environment = "TLSCONTROL_BENCH_SINK"

// Delay is how late the words of a delayed service arrive.
const Delay = 20 * time.Millisecond

// Service is one port.
type Service struct {
	Delay    time.Duration
	Chunking bool
	// HalfDead services are where the hosts of Live answer and those of Dead
	// do not; the others answer at all addresses.
	HalfDead bool
	Port     int
}

// world is what the process says when it stands.
type world struct {
	Resolver string // host:port
	Root     []byte // certificate, in PEM form
	Services []Service
	// NoDeadHosts says why the hosts of Dead are not there, "" if they are.
	NoDeadHosts string
}

// What the process can be asked. The answer to either is Counts.
const (
	askCounts = "counts"
	askHangUp = "hang-up"
)

// Main is the sink, if this process is to be one: it does not return then.
func Main() {
	if os.Getenv(environment) == "" {
		return
	}
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve answers questions until there are no more.
func serve(questions io.Reader, answers io.Writer) error {
	s := &server{open: make(map[net.Conn]bool)}
	w, err := s.start()
	if err != nil {
		return err
	}
	say := json.NewEncoder(answers)
	if err := say.Encode(w); err != nil {
		return err
	}
	lines := bufio.NewScanner(questions)
	for lines.Scan() {
		if lines.Text() == askHangUp {
			s.hangUp()
		}
		if err := say.Encode(s.counts()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// start opens everything.
func (s *server) start() (*world, error) {
	ca, err := mailtest.NewCA()
	if err != nil {
		return nil, err
	}
	cert, err := ca.Issue(mailtest.Wildcard, sharedMX)
	if err != nil {
		return nil, err
	}
	s.tls = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
	w := &world{Root: ca.PEM()}
	if w.Resolver, err = serveDNS(); err != nil {
		return nil, err
	}
	for _, service := range []Service{
		{Chunking: true}, {Chunking: true, Delay: Delay}, {}, {Delay: Delay},
		{Chunking: true, Delay: Delay, HalfDead: true},
	} {
		if service.Port, err = s.listen(service); err != nil {
			return nil, err
		}
		for n := 0; service.HalfDead && n < deadHosts && w.NoDeadHosts == ""; n++ {
			if err := deadHost(netip.AddrPortFrom(deadAddress(n), uint16(service.Port))); err != nil {
				w.NoDeadHosts = err.Error()
			}
		}
		w.Services = append(w.Services, service)
	}
	return w, nil
}

// Process is a sink that runs.
type Process struct {
	world
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	answers *json.Decoder
	mu      sync.Mutex
}

// Start runs the sink by executing this program again.
func Start() (*Process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	p := &Process{cmd: exec.Command(program)}
	p.cmd.Env = append(os.Environ(), environment+"=1")
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	p.answers = json.NewDecoder(stdout)
	if err := p.answers.Decode(&p.world); err != nil {
		return nil, errors.Join(fmt.Errorf("sink: %w", err), p.Close())
	}
	return p, nil
}

// Close ends the process.
func (p *Process) Close() error {
	p.stdin.Close()
	return p.cmd.Wait()
}

// Service returns the port with the given properties.
func (p *Process) Service(want Service) (Service, error) {
	for _, s := range p.Services {
		if s.Delay == want.Delay && s.Chunking == want.Chunking && s.HalfDead == want.HalfDead {
			return s, nil
		}
	}
	return Service{}, fmt.Errorf("sink: no service %+v", want)
}

// Counts asks what has come.
func (p *Process) Counts() (Counts, error) { return p.ask(askCounts) }

// HangUp closes all connections.
func (p *Process) HangUp() error {
	_, err := p.ask(askHangUp)
	return err
}

func (p *Process) ask(question string) (Counts, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var c Counts
	if _, err := fmt.Fprintln(p.stdin, question); err != nil {
		return c, fmt.Errorf("sink: %w", err)
	}
	if err := p.answers.Decode(&c); err != nil {
		return c, fmt.Errorf("sink: %w", err)
	}
	return c, nil
}
