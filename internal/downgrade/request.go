package downgrade

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A request to forget is a file beside the journal, whose name begins with that
// of the journal and requestMark. It has a host in each line.
const requestMark = ".forget-"

// maxRequest bounds what is read of a request: far more hosts than a command line
// has room for.
const maxRequest = 4 << 20

// Forget asks whoever writes the file at path, now or when it is started, to
// forget the hosts. It returns when the request is on disk.
func Forget(path string, hosts []string) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".request-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(strings.Join(hosts, "\n") + "\n")
	if err == nil {
		// Whoever asks may be root; the server is not, and has to read it.
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	_, unique, _ := strings.Cut(filepath.Base(f.Name()), "-")
	return os.Rename(f.Name(), path+requestMark+unique)
}

// Read returns what the file at path holds for the present, by host, without what
// there is a request to forget, and how many of its lines are damaged and passed
// over. Evidence of any age is in it. The server may be writing the file meanwhile.
func Read(path string) (hosts map[string]Evidence, damaged int, err error) {
	// The requests first: the server removes one when the file is without the host.
	forgotten, _, err := requested(path)
	if err != nil {
		return nil, 0, err
	}
	c, err := readFile(path)
	if err != nil {
		return nil, 0, err
	}
	all := make(map[string]Evidence)
	for _, r := range c.records {
		all[r.host] = r.Evidence
	}
	for _, h := range forgotten {
		delete(all, h)
	}
	return all, c.damaged, nil
}

// forgetRequested forgets the hosts that it is asked to, and returns the requests,
// which can be removed when the file was written.
func (m *Memory) forgetRequested() []string {
	hosts, requests, err := requested(m.cfg.Path)
	if err != nil {
		m.complain("cannot read requests to forget hosts", err)
	}
	for _, h := range hosts {
		if m.forget(h) {
			m.cfg.Log.Info("forgot what a host proved, as asked", "mx_host", h)
		}
	}
	return requests
}

// forget reports whether there was something to forget.
func (m *Memory) forget(host string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.whole = true // also if the host is only in the file, as what is too old
	return m.hosts.Remove(host)
}

// requested returns the hosts to forget, and the files that say so. One that is gone
// when it is to be read was heeded meanwhile.
func requested(path string) (hosts, requests []string, err error) {
	dir := filepath.Dir(path)
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	prefix := filepath.Base(path) + requestMark
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) || !e.Type().IsRegular() {
			continue
		}
		request := filepath.Join(dir, e.Name())
		wanted, err := readRequest(request)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return hosts, requests, err
		}
		hosts = append(hosts, wanted...)
		requests = append(requests, request)
	}
	return hosts, requests, nil
}

// readRequest returns the hosts of a request. Lines that name none are passed
// over.
func readRequest(path string) (hosts []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, maxRequest))
	for lines.Scan() {
		if h := lines.Text(); ValidHost(h) {
			hosts = append(hosts, h)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return hosts, nil
}
