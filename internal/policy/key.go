package policy

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Key authenticates stamps. It must stay on the machine (or on the machines
// that share one queue).
type Key [32]byte

// String hides the key: it must not end up in a log by accident.
func (Key) String() string { return "policy.Key(hidden)" }

// GoString hides the key, too.
func (k Key) GoString() string { return k.String() }

// keyMode is the widest permission of a key file: who reads it can forge
// overrides.
const keyMode fs.FileMode = 0o600

// LoadKey reads the key from a file, or makes the file if there is none. Two
// processes may do so at once: a complete file appears under its name in one
// step, and the one that comes second takes the key of the first.
//
// The file holds 64 hexadecimal digits and a line feed. Anything else, and a
// file that others may read or write, is an error that says what to do.
func LoadKey(path string) (Key, error) {
	k, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if err := makeKey(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return Key{}, fmt.Errorf("cannot make the override key %s: %w; "+
			"the directory must exist, be writable and support hard links", path, err)
	}
	return readKey(path)
}

func readKey(path string) (Key, error) {
	k, err := decodeKey(path)
	if err != nil {
		return Key{}, fmt.Errorf("override key %s: %w", path, err)
	}
	return k, nil
}

// errDamaged tells the operator what a damaged key costs.
var errDamaged = errors.New("damaged (not 64 hexadecimal digits and a line feed): " +
	"restore it from a backup, or remove it: a new key is made, " +
	"and messages already queued lose their overrides")

func decodeKey(path string) (Key, error) {
	// Looked at before it is opened: opening a pipe would wait for a writer.
	info, err := os.Stat(path)
	if err != nil {
		return Key{}, err
	}
	if !info.Mode().IsRegular() {
		return Key{}, errors.New("not a regular file: remove it, and a new key is made")
	}
	if perm := info.Mode().Perm(); perm&^keyMode != 0 {
		return Key{}, fmt.Errorf("permissions %04o let others in: "+
			"chmod 600 it if nobody used them, else remove it, and a new key is made", perm)
	}
	f, err := os.Open(path)
	if err != nil {
		return Key{}, err
	}
	defer f.Close()
	var k Key
	const size = 2*len(k) + 1
	text, err := io.ReadAll(io.LimitReader(f, int64(size+1)))
	if err != nil {
		return Key{}, err
	}
	if len(text) != size || text[size-1] != '\n' {
		return Key{}, errDamaged
	}
	if _, err := hex.Decode(k[:], text[:size-1]); err != nil {
		return Key{}, errDamaged
	}
	return k, nil
}

// makeKey puts a new key under the path, complete and on disk, or fails with
// fs.ErrExist if one is already there.
func makeKey(path string) (err error) {
	var k Key
	if _, err := rand.Read(k[:]); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".tls_override.key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(hex.EncodeToString(k[:]) + "\n")
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	// A link, unlike a rename, never replaces a key that another process made.
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a new directory entry survive a crash: a key that stamped
// messages in the queue must not be another one after the restart.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
