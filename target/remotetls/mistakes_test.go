package remotetls

import (
	"strings"
	"testing"
)

// mistake is the lines of a block, from line 2 on, and the message about them
// without the name of the file.
type mistake struct {
	lines string
	want  string
}

const (
	everyDirective = "hostname, local_ip, force_ipv4, debug, tls_client, policy, delivery_log, event_store, resolver, port, allow_private, loop_check, mx_auth, limits, " +
		"requiretls_override, relaxed_requiretls, conn_reuse_limit, conn_max_idle_count, conn_max_idle_time, connect_timeout, " +
		"command_timeout, submission_timeout, chunking, " +
		"host_concurrency, breaker_failures, breaker_min_time, breaker_max_time, downgrade_memory, downgrade_action, tlsrpt"
	everyAuth   = "dane, dnssec, mtasts, local_policy, sts_preload, debug"
	timeoutHint = "expected a duration up to 24h, such as 30s or 5m"
	secondsHint = "expected a number of seconds up to 86400, or a duration such as 150s"
	serverHint  = "expected an IP address with an optional port, as 127.0.0.1, 127.0.0.1:5353, ::1 or [::1]:5353"
	versionHint = "expected the lowest and the highest of tls1.0, tls1.1, tls1.2, tls1.3, or one of them"
	privateHint = "expected yes, no, or networks such as 10.1.0.0/16"
	daysHint    = "expected a time from 1d to 366d, such as 30d, or off"
	limitHint   = "expected rate NUMBER [DURATION] or concurrency NUMBER"
)

// mistakes lists them; missing is a file that is not there, bad one that is no
// certificate.
func mistakes(missing, bad string) []mistake {
	return []mistake{
		{"prot 25", `2: unexpected directive "prot" in target.remote_tls, expected one of ` + everyDirective},
		{"port 25\nport 25", `3: port is already set at maddy.conf:2`},
		{"debug\nhostname a.example\ndebug", `4: debug is already set at maddy.conf:2`},

		{"hostname", `2: hostname: expected a domain name`},
		{`hostname ""`, `2: hostname: unexpected "", expected a domain name`},
		{"hostname .", `2: hostname: unexpected ".", expected a domain name`},
		{"hostname a b", `2: hostname: unexpected "b" after "a", expected a domain name`},
		{`hostname "a b"`, `2: hostname: unexpected "a b", expected a domain name`},
		{"hostname \"a\r\nQUIT\"", `2: hostname: unexpected "a\r\nQUIT", expected a domain name`},
		{"hostname a.example {\n}", `2: hostname: unexpected block, expected a domain name`},
		{"hostname " + strings.Repeat("a", 256), `2: hostname: unexpected "` + strings.Repeat("a", 256) + `", expected a domain name`},

		{"local_ip", `2: local_ip: expected an IP address`},
		{`local_ip ""`, `2: local_ip: unexpected "", expected an IP address`},
		{"local_ip relay.example.com", `2: local_ip: unexpected "relay.example.com", expected an IP address`},
		{"local_ip 192.0.2.1:25", `2: local_ip: unexpected "192.0.2.1:25", expected an IP address`},
		{"local_ip 192.0.2.0/24", `2: local_ip: unexpected "192.0.2.0/24", expected an IP address`},
		{"local_ip [::1", `2: local_ip: unexpected "[::1", expected an IP address`},
		{"local_ip [192.0.2.1]", `2: local_ip: unexpected "[192.0.2.1]", expected an IP address`},
		{"local_ip 192.0.2.1 192.0.2.2", `2: local_ip: unexpected "192.0.2.2" after "192.0.2.1", expected an IP address`},
		{"force_ipv4 yes\nlocal_ip 2001:db8::1", `3: local_ip: unexpected "2001:db8::1", expected an IPv4 address because of force_ipv4`},

		{"force_ipv4 maybe", `2: force_ipv4: unexpected "maybe", expected yes or no`},
		{"force_ipv4 yes no", `2: force_ipv4: unexpected "no" after "yes", expected yes or no`},
		{"force_ipv4 {\n}", `2: force_ipv4: unexpected block, expected yes or no`},
		{"debug 2", `2: debug: unexpected "2", expected yes or no`},
		{"requiretls_override never", `2: requiretls_override: unexpected "never", expected yes or no`},
		{`relaxed_requiretls ""`, `2: relaxed_requiretls: unexpected "", expected yes or no`},
		{"host_concurrency 0", `2: host_concurrency: unexpected "0", expected a number from 1 to 10000`},
		{"breaker_failures -1", `2: breaker_failures: unexpected "-1", expected a number from 0 to 1000`},
		{"breaker_min_time 0s", `2: breaker_min_time: unexpected "0s", ` + timeoutHint},
		{"breaker_max_time 10s", `2: breaker_max_time: unexpected 10s, expected at least the breaker_min_time of 30s`},
		{"breaker_min_time 20m", `2: breaker_max_time: unexpected 10m0s, expected at least the breaker_min_time of 20m0s`},
		{"downgrade_memory", `2: downgrade_memory: ` + daysHint},
		{"downgrade_memory {\n}", `2: downgrade_memory: unexpected block, ` + daysHint},
		{"downgrade_memory 30", `2: downgrade_memory: unexpected "30", ` + daysHint},
		{"downgrade_memory 30 d", `2: downgrade_memory: unexpected "d" after "30", ` + daysHint},
		{"downgrade_memory 1h", `2: downgrade_memory: unexpected "1h", ` + daysHint},
		{"downgrade_memory 0d", `2: downgrade_memory: unexpected "0d", ` + daysHint},
		{"downgrade_memory -30d", `2: downgrade_memory: unexpected "-30d", ` + daysHint},
		{"downgrade_memory 367d", `2: downgrade_memory: unexpected "367d", ` + daysHint},
		{"downgrade_memory 213503982334602d", `2: downgrade_memory: unexpected "213503982334602d", ` + daysHint}, // one day if it overflows
		{"downgrade_action", `2: downgrade_action: expected log, defer or off`},
		{"downgrade_action reject", `2: downgrade_action: unexpected "reject", expected log, defer or off`},
		{"downgrade_action log defer", `2: downgrade_action: unexpected "defer" after "log", expected log, defer or off`},
		{"downgrade_memory off\ndowngrade_action defer", `3: downgrade_action: unexpected "defer", expected off or log because of downgrade_memory off`},
		{"chunking always", `2: chunking: unexpected "always", expected yes or no`},

		{"tls_client", `2: tls_client: expected a block`},
		{"tls_client " + bad, `2: tls_client: unexpected "` + bad + `", expected a block`},
		{"tls_client off {\n}", `2: tls_client: unexpected "off", expected a block`},
		{"tls_client {\nroot_cas " + bad + "\n}", `3: unexpected directive "root_cas" in tls_client, expected one of root_ca, cert, key, protocols, ciphers, curves`},
		{"tls_client {\nroot_ca\n}", `3: root_ca: expected at least one file`},
		{"tls_client {\nprotocols tls1.2\nroot_ca " + missing + "\n}", `4: root_ca: open ` + missing + `: no such file or directory`},
		{"tls_client {\nroot_ca " + bad + "\n}", `2: tls_client: no certificates was loaded from ` + bad},
		{"tls_client {\nroot_ca " + bad + "\nroot_ca " + bad + "\n}", `4: root_ca is already set at maddy.conf:3`},
		{"tls_client {\ncert " + bad + "\n}", `3: cert: expected key as well`},
		{"tls_client {\nkey " + bad + "\n}", `3: key: expected cert as well`},
		{"tls_client {\ncert " + bad + "\nkey " + bad + "\n}", `2: tls_client: tls: failed to find any PEM data in certificate input`},
		{"tls_client {\ncert " + bad + " " + bad + "\n}", `3: cert: unexpected "` + bad + `" after "` + bad + `", expected a file`},
		{"tls_client {\nprotocols\n}", `3: protocols: ` + versionHint},
		{"tls_client {\nprotocols ssl3\n}", `3: protocols: unexpected "ssl3", ` + versionHint},
		{"tls_client {\nprotocols \"\"\n}", `3: protocols: unexpected "", ` + versionHint},
		{"tls_client {\nprotocols tls1.3 tls1.2\n}", `3: protocols: unexpected "tls1.3 tls1.2", ` + versionHint},
		{"tls_client {\nprotocols tls1.1 tls1.2 tls1.3\n}", `3: protocols: unexpected "tls1.3", ` + versionHint},
		{"tls_client {\nciphers none\n}", `3: unknown cipher: none`},
		{"tls_client {\ncurves\n}", `3: curves: expected at least one name`},
		{"tls_client {\ncurves X25519 {\n}\n}", `3: curves: unexpected block, expected at least one name`},

		{"policy outbound", `2: policy: unexpected "outbound", expected &name or a block`},
		{"policy &nowhere", `2: policy: there is no block named "nowhere"`},
		{"policy {\nrequire_tls maybe\n}", `3: require_tls: unexpected "maybe", expected yes or no`},
		{"delivery_log off", `2: delivery_log: unexpected "off", expected &name or a block`},
		{"delivery_log &nowhere", `2: delivery_log: there is no block named "nowhere"`},
		{"delivery_log {\noutput\n}", `3: output: expected file PATH, stderr, stdout, syslog or off`},

		{"resolver", `2: resolver: expected an IP address with an optional port, as 127.0.0.1`},
		{"resolver 127.0.0.1 {\n}", `2: resolver: unexpected block, expected an IP address with an optional port, as 127.0.0.1`},
		{"resolver ns.example.net", `2: resolver "ns.example.net": ` + serverHint},
		{"resolver 127.0.0.1 127.0.0.1:0", `2: resolver "127.0.0.1:0": ` + serverHint},

		{"port smtp", `2: port: unexpected "smtp", expected a number from 1 to 65535`},
		{"port 0", `2: port: unexpected "0", expected a number from 1 to 65535`},
		{"port -25", `2: port: unexpected "-25", expected a number from 1 to 65535`},
		{"port 65536", `2: port: unexpected "65536", expected a number from 1 to 65535`},
		{"port", `2: port: expected a number from 1 to 65535`},
		{"port 25 587", `2: port: unexpected "587" after "25", expected a number from 1 to 65535`},
		{"port 25 {\n}", `2: port: unexpected block, expected a number from 1 to 65535`},

		{"allow_private {\n}", `2: allow_private: unexpected block, ` + privateHint},
		{"allow_private maybe", `2: allow_private: unexpected "maybe", ` + privateHint},
		{`allow_private ""`, `2: allow_private: unexpected "", ` + privateHint},
		{"allow_private internal.example", `2: allow_private: unexpected "internal.example", expected a network such as 10.1.0.0/16 or an address`},
		{"allow_private yes 10.0.0.0/8", `2: allow_private: unexpected "yes", expected a network such as 10.1.0.0/16 or an address`},
		{"allow_private 10.0.0.0/8 no", `2: allow_private: unexpected "no", expected a network such as 10.1.0.0/16 or an address`},
		{"allow_private 10.1.2.3/16", `2: allow_private: unexpected "10.1.2.3/16", expected 10.1.0.0/16, whose first address this is not`},
		{"allow_private 8.8.8.8", `2: allow_private: unexpected "8.8.8.8", expected a network that is not on the Internet, whose addresses are not held back`},
		{"loop_check maybe", `2: loop_check: unexpected "maybe", expected yes or no`},

		{"mx_auth", `2: mx_auth: expected a block or &name`},
		{"mx_auth shared", `2: mx_auth: unexpected "shared", expected a block or &name`},
		{"mx_auth &", `2: mx_auth: unexpected "&", expected a block or &name`},
		{"mx_auth &nowhere", `2: mx_auth: there is no block named "nowhere"`},
		{"mx_auth &a &b", `2: mx_auth: unexpected "&b" after "&a", expected a block or &name`},
		{"mx_auth &nowhere {\ndane\n}", `2: mx_auth: a block is not allowed after &nowhere`},
		{"mx_auth {\ndkim\n}", `3: unexpected directive "dkim" in mx_auth, expected one of ` + everyAuth},
		{"mx_auth {\ndebug maybe\n}", `3: debug: unexpected "maybe", expected yes or no`},
		{"mx_auth {\nlocal_policy\nlocal_policy\n}", `4: local_policy is already set at maddy.conf:3`},
		{"mx_auth {\ndane yes\n}", `3: dane: unexpected "yes", expected a block or nothing`},
		{"mx_auth {\ndane {\nusage 3\n}\n}", `4: unexpected directive "usage" in dane, expected one of debug`},
		{"mx_auth {\ndane {\ndebug maybe\n}\n}", `4: debug: unexpected "maybe", expected yes or no`},
		{"mx_auth {\ndnssec yes\n}", `3: dnssec: unexpected "yes", expected nothing`},
		{"mx_auth {\ndnssec {\ndebug\n}\n}", `4: dnssec: unexpected "debug", expected an empty block`},
		{"mx_auth {\nmtasts ram\n}", `3: mtasts: unexpected "ram", expected a block or nothing`},
		{"mx_auth {\nmtasts {\ncash fs\n}\n}", `4: unexpected directive "cash" in mtasts, expected one of cache, fs_dir, root_ca, port, allow_private`},
		{"mx_auth {\nmtasts {\ncache redis\n}\n}", `4: cache: unexpected "redis", expected ram or fs`},
		{"mx_auth {\nmtasts {\ncache\n}\n}", `4: cache: expected ram or fs`},
		{"mx_auth {\nmtasts {\ncache ram\nfs_dir x\n}\n}", `5: fs_dir: unexpected with cache ram, expected cache fs`},
		{"mx_auth {\nmtasts {\nfs_dir\n}\n}", `4: fs_dir: expected a directory`},
		{"mx_auth {\nmtasts {\nfs_dir \"\"\n}\n}", `4: fs_dir: unexpected "", expected a directory`},
		{"mx_auth {\nmtasts {\nfs_dir a b\n}\n}", `4: fs_dir: unexpected "b" after "a", expected a directory`},
		{"mx_auth {\nmtasts {\nroot_ca\n}\n}", `4: root_ca: expected at least one file`},
		{"mx_auth {\nmtasts {\nroot_ca " + missing + "\n}\n}", `4: root_ca: open ` + missing + `: no such file or directory`},
		{"mx_auth {\nmtasts {\nroot_ca " + bad + "\n}\n}", `4: root_ca: there is no certificate in ` + bad},
		{"mx_auth {\nmtasts {\nport https\n}\n}", `4: port: unexpected "https", expected a number from 1 to 65535`},
		{"mx_auth {\nmtasts {\nallow_private maybe\n}\n}", `4: allow_private: unexpected "maybe", expected yes or no`},
		{"mx_auth {\nsts_preload {\nlist eff\n}\n}", `4: unexpected directive "list" in sts_preload, expected one of source, enforce_testing`},
		{"mx_auth {\nlocal_policy none\n}", `3: local_policy: unexpected "none", expected a block or off`},
		{"mx_auth {\nlocal_policy {\nmin_level none\n}\n}", `4: unexpected directive "min_level" in local_policy, expected one of min_tls_level, min_mx_level`},
		{"mx_auth {\nlocal_policy {\nmin_tls_level\n}\n}", `4: min_tls_level: expected none, encrypted or authenticated`},
		{"mx_auth {\nlocal_policy {\nmin_tls_level verified\n}\n}", `4: min_tls_level: unexpected "verified", expected none, encrypted or authenticated`},
		{"mx_auth {\nlocal_policy {\nmin_tls_level none {\n}\n}\n}", `4: min_tls_level: unexpected block, expected none, encrypted or authenticated`},
		{"mx_auth {\nlocal_policy {\nmin_tls_level none\nmin_tls_level none\n}\n}", `5: min_tls_level is already set at maddy.conf:4`},
		{"mx_auth {\nlocal_policy {\nmin_mx_level dane\n}\n}", `4: min_mx_level: unexpected "dane", expected none, mtasts or dnssec`},

		{"limits", `2: limits: expected a block or &name`},
		{"limits &nowhere", `2: limits: unknown config block: nowhere`},
		{"limits {\neverybody rate 5\n}", `3: limits: unexpected "everybody", expected all, ip, source or destination`},
		{"limits {\nall\n}", `3: all: ` + limitHint},
		{"limits {\nall speed 5\n}", `3: all: unexpected "speed", ` + limitHint},
		{"limits {\nall rate\n}", `3: all rate: expected a number`},
		{"limits {\nall rate 5 {\n}\n}", `3: all: unexpected block, ` + limitHint},
		{"limits {\nall rate -5\n}", `3: all rate: unexpected "-5", expected a number from 0 (no limit) to 1000000`},
		{"limits {\nall rate 99999999999999999999\n}", `3: all rate: unexpected "99999999999999999999", expected a number from 0 (no limit) to 1000000`},
		{"limits {\nall rate 5 0s\n}", `3: all rate: unexpected "0s", expected a duration such as 1s or 5m`},
		{"limits {\nall rate 5 10\n}", `3: all rate: unexpected "10", expected a duration such as 1s or 5m`},
		{"limits {\nall rate 5 1s burst\n}", `3: all rate: unexpected "burst", expected nothing more`},
		{"limits {\nall concurrency -1\n}", `3: all concurrency: unexpected "-1", expected a number from 0 (no limit) to 1000000`},
		{"limits {\nall concurrency 5 1s\n}", `3: all concurrency: unexpected "1s", expected nothing more`},

		{"conn_reuse_limit -1", `2: conn_reuse_limit: unexpected "-1", expected a number from 0 to 1000000`},
		{"conn_reuse_limit many", `2: conn_reuse_limit: unexpected "many", expected a number from 0 to 1000000`},
		{"conn_max_idle_count 5001", `2: conn_max_idle_count: unexpected "5001", expected a number from 0 to 5000`},
		{"conn_max_idle_time -1", `2: conn_max_idle_time: unexpected "-1", ` + secondsHint},
		{"conn_max_idle_time soon", `2: conn_max_idle_time: unexpected "soon", ` + secondsHint},
		{"conn_max_idle_time 86401", `2: conn_max_idle_time: unexpected "86401", ` + secondsHint},
		{"conn_max_idle_time 18446744074", `2: conn_max_idle_time: unexpected "18446744074", ` + secondsHint}, // 0.29 s if it overflows
		{"connect_timeout", `2: connect_timeout: ` + timeoutHint},
		{"connect_timeout 30", `2: connect_timeout: unexpected "30", ` + timeoutHint},
		{"connect_timeout 0s", `2: connect_timeout: unexpected "0s", ` + timeoutHint},
		{"command_timeout -5m", `2: command_timeout: unexpected "-5m", ` + timeoutHint},
		{"command_timeout 5m 30", `2: command_timeout: unexpected "5m 30", ` + timeoutHint},
		{"submission_timeout 1000h", `2: submission_timeout: unexpected "1000h", ` + timeoutHint},
		{"submission_timeout 5m {\n}", `2: submission_timeout: unexpected block, ` + timeoutHint},
	}
}

// Each mistake, alone in a block, and the exact message.
func TestMistakes(t *testing.T) {
	t.Parallel()
	bad := unreadable(t)
	for _, m := range mistakes(bad+".missing", bad) {
		t.Run(m.lines, func(t *testing.T) {
			t.Parallel()
			if cfg, err := load(t, nil, m.lines); err == nil || cfg != nil || err.Error() != "maddy.conf:"+m.want {
				t.Errorf("got  %v\nwant maddy.conf:%s", err, m.want)
			}
		})
	}
}

// What the globals say is read at the same place, and wrong at the block's line.
func TestGlobalMistakes(t *testing.T) {
	t.Parallel()
	for hostname, want := range map[string]string{
		"":        "maddy.conf:1: missing required directive: hostname",
		"a b":     `maddy.conf:1: hostname: unexpected "a b", expected a domain name`,
		"a\r\nb!": `maddy.conf:1: hostname: unexpected "a\r\nb!", expected a domain name`,
	} {
		globals := map[string]interface{}{"hostname": hostname}
		if hostname == "" {
			delete(globals, "hostname")
		}
		if _, err := load(t, globals, quiet); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
