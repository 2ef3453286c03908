package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/foxcpp/maddy"
	"github.com/foxcpp/maddy/framework/config"
)

// visit is a stay in the state directory that leaves nothing behind which the server could not use. Some modules of
// maddy make what is missing as soon as they are opened, such as the directory of a shared mtasts block; made by root
// before the server's first start, it would be closed to the server from then on. Tables are opened as they are (tables.go).
type visit struct {
	scratch string          // instead of a state directory that is not there yet
	had     map[string]bool // what was there, nil if all may stay that was made
}

// checkStateDir sets the default of the state directory, and refuses one that maddy refuses.
func checkStateDir() error {
	if config.StateDirectory == "" {
		config.StateDirectory = maddy.DefaultStateDirectory
	}
	if !filepath.IsAbs(config.StateDirectory) {
		return fmt.Errorf("state_dir: unexpected %q, expected an absolute path", config.StateDirectory)
	}
	return nil
}

// enter does what maddy.InitDirs does, and makes neither the state directory nor the runtime directory.
func (v *visit) enter() error {
	if config.RuntimeDirectory == "" {
		config.RuntimeDirectory = maddy.DefaultRuntimeDirectory
	}
	if err := checkStateDir(); err != nil {
		return err
	}
	err := os.Chdir(config.StateDirectory)
	if errors.Is(err, fs.ErrNotExist) {
		if v.scratch, err = os.MkdirTemp("", "maddy-"); err != nil {
			return err
		}
		return os.Chdir(v.scratch)
	}
	if err != nil || ownedByUs(".") {
		return err
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		return nil // Root may list it, and others have no business in it.
	}
	v.had = make(map[string]bool)
	for _, e := range entries {
		v.had[e.Name()] = true
	}
	return nil
}

// leave takes away what was made meanwhile: of a directory that is somebody else's, what is ours. The server's own
// files, which it may be making in the same moment, are not.
func (v *visit) leave() {
	if v.scratch != "" {
		_ = os.Chdir(os.TempDir())
		_ = os.RemoveAll(v.scratch)
		return
	}
	if v.had == nil {
		return
	}
	entries, _ := os.ReadDir(config.StateDirectory)
	for _, e := range entries {
		path := filepath.Join(config.StateDirectory, e.Name())
		if !v.had[e.Name()] && ownedByUs(path) {
			_ = os.Remove(path) // A directory goes only if it is empty.
		}
	}
}

func ownedByUs(path string) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}
