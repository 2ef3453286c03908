package real

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// eximConf is a server that takes mail for its own domains and files it. Names
// from outside are tainted for Exim, so that a mailbox is looked up among
// those that exist.
const eximConf = `exim_path = {exim}
spool_directory = {dir}/spool
log_file_path = {dir}/log/%slog
pid_file_path = {dir}/spool/exim.pid
primary_hostname = good.mx.test
local_interfaces = {ips}
daemon_smtp_ports = {port}
deliver_drop_privilege
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_queue_per_connection = 0
smtp_accept_max = 500
smtp_receive_timeout = ${if eq{$received_ip_address}{{idle}}{{idle-time}}{5m}}
message_size_limit = {size}
pipelining_advertise_hosts = *
chunking_advertise_hosts = *
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
tls_advertise_hosts = ${if eq{$received_ip_address}{{clear}}{}{*}}
tls_require_ciphers = ${if eq{$received_ip_address}{{old}}{NORMAL:-VERS-TLS1.3}{NORMAL}}
tls_certificate = {dir}/${lookup{$received_ip_address}lsearch{{dir}/doors}}.pem
acl_smtp_rcpt = check_rcpt
acl_smtp_data = accept
log_selector = +smtp_connection +tls_cipher +received_recipients +incoming_port

begin acl
check_rcpt:
  deny    ! domains = {domains}
          message = relay not permitted
  deny    local_parts = nobody
          message = no such mailbox
  accept

begin routers
all:
  driver = accept
  transport = box

begin transports
box:
  driver = appendfile
  maildir_format
  directory = {dir}/mail/${lookup{$local_part}dsearch{{dir}/mail}}
  envelope_to_add
  return_path_add
`

// startExim lets Exim be the receiver, for more domains if there are any.
func startExim(t *testing.T, domains ...string) *receiver {
	t.Helper()
	need(t, eximPart)
	r := newReceiver(t)
	domains = append(domains, r.domains()...)
	var ips []string
	table := ""
	for door, ip := range r.ips {
		ips = append(ips, ip)
		table += ip + ": " + door + "\n"
	}
	slices.Sort(ips)
	exim, err := find(eximPart.binaries[0])
	if err != nil {
		t.Fatal(err)
	}
	write(t, r.path("doors"), table)
	write(t, r.path("exim.conf"), fill(eximConf, "exim", exim, "dir", r.dir, "ips", strings.Join(ips, " : "),
		"port", fmt.Sprint(r.port), "size", fmt.Sprint(sizeLimit), "clear", r.ips["clear"], "idle", r.ips["idle"], "idle-time", idleTime, "old", r.ips["old"],
		"domains", strings.Join(domains, " : ")))
	makeDirs(t, "Debian-exim", r.path("spool"), r.path("log"), r.path("mail"))
	for _, box := range boxes {
		makeDirs(t, "Debian-exim", r.path("mail/"+box))
	}
	r.logFile, r.timeout = r.path("log/mainlog"), "SMTP command timeout"
	r.session = regexp.MustCompile(` <= \S+ H=\(relay.example.com\) \[127\.0\.0\.1\]:(\d+) `)
	r.xtext = true // against RFC 3461, section 6.3
	r.serve("Exim", exec.Command(exim, "-C", r.path("exim.conf"), "-bdf"))
	return r
}
