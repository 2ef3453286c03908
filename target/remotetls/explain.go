package remotetls

import (
	"context"
	"errors"
	"strconv"

	"github.com/emersion/go-message/textproto"
	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/explain"
	"tlscontrol/internal/policy"
)

// Question is a message of which the fate is asked.
type Question struct {
	From, To   string // From is "" for the null sender
	Header     textproto.Header
	REQUIRETLS bool // the sender used the extension of RFC 8689
	// Admitted reads override fields as those of a client that check.tls_override
	// admits.
	Admitted bool
	Probe    bool // dial the hosts
}

// errStamp: a stamp is about one message that there is already, and nobody can
// write it by hand.
var errStamp = errors.New("a header field " + policy.StampField + " cannot be given: name the fields that it stands for")

// Explain tells what would become of a message that the target got now. The error
// is about the question: an address that this target takes no mail for, or header
// fields that would be refused.
func (t *Target) Explain(ctx context.Context, q Question) (*explain.Document, error) {
	if q.Header.Has(policy.StampField) {
		return nil, errStamp
	}
	meta := &module.MsgMetadata{}
	meta.SMTPOpts.RequireTLS = q.REQUIRETLS
	d := t.collect(meta, q.From)
	d.msg.Header = q.Header
	if no := d.take(delivery.Recipient{Address: q.To}); no != nil {
		return nil, errors.New(no.text)
	}
	asked := delivery.Question{Message: &d.msg, Admitted: q.Admitted, Probe: q.Probe}
	x, err := t.engine.Explain(ctx, asked)
	if err != nil {
		return nil, err
	}
	return explain.New(t.instName, asked, x), nil
}

// Alone says what a target without a configuration is made of. Everything else is
// as in a block that does not mention it, and DANE and MTA-STS count.
type Alone struct {
	Hostname  string   // for EHLO
	Resolvers []string // as the directive takes them; nil: the system's
	Port      int      // 0: 25
	Roots     string   // PEM file, for MX hosts and policy hosts; "": the system's
}

// NewAlone makes a target for looking at other people's hosts. It keeps nothing on
// disk.
func NewAlone(a Alone) (*Target, error) {
	node := func(name string, args ...string) config.Node { return config.Node{Name: name, Args: args} }
	mtasts := node("mtasts")
	mtasts.Children = []config.Node{node("cache", "ram")}
	block := node("target." + name)
	block.Children = []config.Node{node("hostname", a.Hostname), node("downgrade_memory", "off"), node("downgrade_action", "off"),
		node("loop_check", "no")} // this machine's own server may be what is looked at
	if len(a.Resolvers) > 0 {
		block.Children = append(block.Children, node("resolver", a.Resolvers...))
	}
	if a.Port != 0 {
		block.Children = append(block.Children, node("port", strconv.Itoa(a.Port)))
	}
	if a.Roots != "" {
		roots := node("root_ca", a.Roots)
		block.Children = append(block.Children, config.Node{Name: "tls_client", Children: []config.Node{roots}})
		mtasts.Children = append(mtasts.Children, roots)
	}
	block.Children = append(block.Children, config.Node{Name: "mx_auth", Children: []config.Node{node("dane"), mtasts}})
	m, err := New("", "", nil, nil)
	if err != nil {
		return nil, err
	}
	t := m.(*Target)
	return t, t.Init(config.NewMap(map[string]interface{}{}, block))
}
