package remotetls

import (
	"context"
	"sync"

	"github.com/emersion/go-message/textproto"
	"github.com/emersion/go-smtp"
	"github.com/foxcpp/maddy/framework/buffer"
	"github.com/foxcpp/maddy/framework/hooks"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/tlsrpt"
)

// reportMailer hands TLS reports to any of maddy's delivery targets.
type reportMailer struct {
	target module.DeliveryTarget
	// stop ends the sending of reports, once the server stops.
	stop    func()
	started sync.Once
}

var _ tlsrpt.Mailer = (*reportMailer)(nil)

// Mail implements tlsrpt.Mailer.
func (m *reportMailer) Mail(ctx context.Context, from, to string, header textproto.Header, body []byte) error {
	// Hooks run in reverse order. One added now, when all modules stand, runs
	// before a queue is closed, which takes nothing any more then.
	m.started.Do(func() { hooks.AddHook(hooks.EventShutdown, m.stop) })
	id, err := module.GenerateMsgID()
	if err != nil {
		return err
	}
	d, err := m.target.Start(ctx, &module.MsgMetadata{ID: id, OriginalFrom: from}, from)
	if err != nil {
		return err
	}
	err = d.AddRcpt(ctx, to, smtp.RcptOptions{})
	if err == nil {
		err = d.Body(ctx, header, buffer.MemoryBuffer{Slice: body})
	}
	if err != nil {
		_ = d.Abort(ctx) // Nothing was taken; err says why.
		return err
	}
	return d.Commit(ctx)
}
