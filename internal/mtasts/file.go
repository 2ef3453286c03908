package mtasts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Each policy is a file of its own, DIR/policies/DOMAIN.json. The directory
// below DIR keeps us apart from maddy's own target.remote, which takes every
// file in DIR for a policy in a format of its own, and passes over directories.
const (
	subdirectory = "policies"
	suffix       = ".json"
	// damaged is added to the name of a file that cannot be read.
	damaged = ".bad"
	// temporary is how names of unfinished files begin. No domain begins so.
	temporary = ".tmp-"

	// fileVersion is the version of the format.
	fileVersion = 1
	// maxFile bounds a file: a policy of 64 KiB, and what JSON adds.
	maxFile = 4 * maxBody
)

// file is a policy on disk, made to be read by people too.
type file struct {
	Version int       `json:"version"`
	Domain  string    `json:"domain"`
	ID      string    `json:"id"`
	Mode    Mode      `json:"mode"`
	MX      []string  `json:"mx"`
	MaxAge  int64     `json:"max_age"` // seconds
	Fetched time.Time `json:"fetched"`
	Expires time.Time `json:"expires"` // for the reader; it follows from the others
	Used    time.Time `json:"used"`    // when mail last went there, as of the last fetch
}

// encode renders a policy as a file.
func encode(domain string, p *Policy, used time.Time) ([]byte, error) {
	text, err := json.MarshalIndent(file{
		Version: fileVersion, Domain: domain, ID: p.ID, Mode: p.Mode, MX: p.MX,
		MaxAge: int64(p.MaxAge / time.Second), Fetched: p.Fetched, Expires: p.Expires, Used: used,
	}, "", "\t")
	return append(text, '\n'), err
}

// decode reads a file and believes nothing that a policy from the network could
// not say.
func decode(domain string, text []byte) (p *Policy, used time.Time, err error) {
	var f file
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&f); err != nil {
		return nil, used, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, used, errors.New("something follows the policy")
	}
	switch {
	case f.Version != fileVersion:
		return nil, used, fmt.Errorf("version %d where %d is wanted", f.Version, fileVersion)
	case f.Domain != domain:
		return nil, used, errors.New("it is of another domain")
	case f.MaxAge < 0 || f.MaxAge > int64(maxAge/time.Second):
		return nil, used, errors.New("max_age is out of bounds")
	}
	age := time.Duration(f.MaxAge) * time.Second
	p = &Policy{
		ID: f.ID, Mode: f.Mode, MX: f.MX, MaxAge: age,
		Fetched: f.Fetched.UTC(), Expires: expiry(f.Fetched.UTC(), age),
	}
	return p, f.Used.UTC(), p.check()
}

// writeFile puts a file into dir, whole or not at all.
func writeFile(dir, name string, text []byte) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, temporary+"*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(text)
	if err == nil {
		// Else the name could reach the disk before the text does.
		err = f.Sync()
	}
	if failed := f.Close(); err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, name))
}

// readFile reads a file that is not too large.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = errTooLarge
	}
	return text, err
}

// errTooLarge is damage, other errors of readFile are of the disk.
var errTooLarge = errors.New("the file is too large to be a policy")
