//go:build !linux

package demo

import "syscall"

// tied returns nothing: only Linux can end a process with its parent whatever happens to that.
func tied() *syscall.SysProcAttr { return nil }
