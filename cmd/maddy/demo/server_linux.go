package demo

import "syscall"

// tied makes a process end with this one, however that ends. Ctrl-C at the terminal is for this one alone, which
// passes it on.
func tied() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
