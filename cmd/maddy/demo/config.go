package demo

import "strings"

// Whoever is on this machine may use the server: it reaches nothing but the MX hosts of the demonstration.
const (
	user     = "demo@tlscontrol.example"
	password = "demo"
)

// configuration is maddy.conf. Words in braces are replaced.
const configuration = `# The configuration of "maddy tls demo".

state_dir "{dir}/state"
runtime_dir "{dir}/run"
hostname relay.tlscontrol.example
log stderr

# A sending domain for each kind of settings.
tls_policy outbound_policy {
    opportunistic_fallback plaintext
    on_failure defer
    message_override any

    domain opportunistic-verify.example {
        require_tls no
        skip_verification no
    }
    domain opportunistic-skip.example {
        require_tls no
        skip_verification yes
    }
    domain required-verify.example {
        require_tls yes
        skip_verification no
    }
    domain required-skip.example {
        require_tls yes
        skip_verification yes
    }
    domain keep-tls.example {
        require_tls no
        skip_verification no
        opportunistic_fallback unverified
    }
    domain reject.example {
        require_tls yes
        skip_verification no
        on_failure reject
    }
    domain tighten.example {
        require_tls yes
        skip_verification no
        message_override tighten
    }
    domain none.example {
        require_tls yes
        skip_verification no
        message_override none
    }
}

delivery_log deliveries {
    output file "{dir}/deliveries.jsonl"
    headers message-id subject
}

target.remote_tls outbound {
    policy &outbound_policy
    delivery_log &deliveries

    # The resolver, port and authority of the demonstration. None of these lines is needed in the world.
    resolver {resolver}
    port {port}
    tls_client {
        root_ca "{dir}/ca.pem"
    }
    # A connection for each message, so that each row shows all that happens.
    conn_reuse_limit 0
}

target.queue remote_queue {
    target &outbound
}

submission tcp://{submission} {
    tls off
    insecure_auth yes
    auth pass_table static {
        entry {user} "bcrypt:{hash}"
    }
    check {
        tls_override {
            policy &outbound_policy
            allow authenticated
        }
    }
    deliver_to &remote_queue
}
`

// configFor fills the configuration in.
func configFor(dir, resolver, port, submission, hash string) string {
	return strings.NewReplacer("{dir}", dir, "{resolver}", resolver, "{port}", port, "{submission}", submission,
		"{user}", user, "{hash}", hash).Replace(configuration)
}
