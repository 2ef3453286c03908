package real

import (
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// postfixMain is main.cf. It is complete for a server that takes mail for its own
// domains and files it.
const postfixMain = `compatibility_level = 3.6
queue_directory = {dir}/queue
data_directory = {dir}/data
maillog_file_prefixes = {dir}
maillog_file = {dir}/maillog
myhostname = good.mx.test
inet_interfaces = loopback-only
inet_protocols = ipv4
mydestination =
mynetworks =
alias_maps =
smtpd_relay_restrictions = reject_unauth_destination
smtpd_tls_chain_files = {dir}/good.pem
smtpd_tls_security_level = may
smtpd_tls_received_header = yes
smtpd_tls_loglevel = 1
message_size_limit = {size}
mailbox_size_limit = 0
virtual_mailbox_limit = 0
virtual_mailbox_domains = {domains}
virtual_mailbox_maps = texthash:{dir}/boxes
virtual_mailbox_base = {dir}/mail
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
`

// postfixMaster is master.cf: the programs that receiving and filing take, without
// chroot. The smtpd lines, one a door, are added.
const postfixMaster = `cleanup   unix  n  -  n  -     0  cleanup
qmgr      unix  n  -  n  300   1  qmgr
tlsmgr    unix  -  -  n  1000? 1  tlsmgr
rewrite   unix  -  -  n  -     -  trivial-rewrite
bounce    unix  -  -  n  -     0  bounce
defer     unix  -  -  n  -     0  bounce
trace     unix  -  -  n  -     0  bounce
proxymap  unix  -  -  n  -     -  proxymap
smtp      unix  -  -  n  -     -  smtp
error     unix  -  -  n  -     -  error
retry     unix  -  -  n  -     -  error
virtual   unix  -  n  n  -     -  virtual
anvil     unix  -  -  n  -     1  anvil
pickup    unix  n  -  n  60    1  pickup
showq     unix  n  -  n  -     -  showq
postlog   unix-dgram n - n -   1  postlogd
`

// startPostfix lets Postfix be the receiver, for more domains if there are any.
func startPostfix(t *testing.T, domains ...string) *receiver {
	t.Helper()
	need(t, postfixPart)
	r := newReceiver(t)
	domains = append(domains, r.domains()...)
	master := postfixMaster
	for _, door := range slices.Sorted(maps.Keys(r.ips)) {
		master += fmt.Sprintf("%s:%d inet n - n - - smtpd -o smtpd_tls_chain_files=%s", r.ips[door], r.port, r.path(door+".pem"))
		switch door {
		case "clear":
			master += " -o smtpd_tls_security_level=none"
		case "old":
			master += " -o smtpd_tls_protocols=<=TLSv1.2"
		case "idle":
			master += " -o smtpd_timeout=" + idleTime
		}
		master += "\n"
	}
	table := ""
	for _, box := range boxes {
		for _, domain := range domains {
			table += box + "@" + domain + " " + box + "/\n"
		}
	}
	config := r.path("config")
	write(t, config+"/main.cf", fill(postfixMain, "dir", r.dir,
		"size", fmt.Sprint(sizeLimit), "domains", strings.Join(domains, ", ")))
	write(t, config+"/master.cf", master)
	write(t, r.path("boxes"), table)
	makeDirs(t, "root", r.path("queue"))
	makeDirs(t, "postfix", r.path("data"))
	makeDirs(t, "nobody", r.path("mail"))
	postfix, err := find("postfix")
	if err != nil {
		t.Fatal(err)
	}
	check := exec.Command(postfix, "-c", config, "check") // makes the directories of the queue
	if out, err := check.CombinedOutput(); err != nil {
		t.Fatalf("postfix check: %v\n%s", err, out)
	}
	program, err := find("master")
	if err != nil {
		t.Fatal(err)
	}
	r.logFile, r.timeout = r.path("maillog"), "timeout after"
	r.session = regexp.MustCompile(`smtpd\[(\d+)\]: [0-9A-F]+: client=`)
	r.serve("Postfix", exec.Command(program, "-c", config, "-d"))
	return r
}
