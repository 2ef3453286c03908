package bench

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/emersion/go-message/textproto"
	"github.com/emersion/go-smtp"
	"github.com/foxcpp/maddy/framework/buffer"
	parser "github.com/foxcpp/maddy/framework/cfgparser"
	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/module"
	"golang.org/x/crypto/bcrypt"

	"tlscontrol/internal/apikey"
)

// Names of the doors to one queue, as they stand in the tables.
const (
	overHTTP = "http_api"
	overSMTP = "submission"
)

// nowhere is the target behind the queue: what is there stays there until the
// measurement is over, so that nothing but taking messages over is measured.
type nowhere struct {
	name   string
	opened chan struct{}
}

// Init, Name and InstanceName implement module.Module.
func (n *nowhere) Init(*config.Map) error { return nil }
func (n *nowhere) Name() string           { return "target.nowhere" }
func (n *nowhere) InstanceName() string   { return n.name }

// Start implements module.DeliveryTarget.
func (n *nowhere) Start(context.Context, *module.MsgMetadata, string) (module.Delivery, error) {
	<-n.opened
	return taken{}, nil
}

// taken takes everything.
type taken struct{}

func (taken) AddRcpt(context.Context, string, smtp.RcptOptions) error     { return nil }
func (taken) Body(context.Context, textproto.Header, buffer.Buffer) error { return nil }
func (taken) Abort(context.Context) error                                 { return nil }
func (taken) Commit(context.Context) error                                { return nil }

// relay is a queue on disk with both doors before it.
type relay struct {
	dir        string // the queue's
	http, smtp string // addresses
	key        string // for everything
	key2       string // for example.com
	nowhere    *nowhere
	closers    []io.Closer // in this order
}

const relayPassword = "correct horse"

// newRelay starts it. A queue of its own keeps one measurement from the other.
func newRelay() (r *relay, err error) {
	number := strconv.FormatInt(instances.Add(1), 10)
	dir, err := os.MkdirTemp(theWorld.dir, "relay-")
	if err != nil {
		return nil, err
	}
	r = &relay{dir: filepath.Join(dir, "queue"), nowhere: &nowhere{"nowhere" + number, make(chan struct{})}}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	adopt(r.nowhere)
	block := func(name, instance string, lines ...string) (module.Module, error) {
		mod, err := load(name, instance+number, lines)
		if err != nil {
			return nil, err
		}
		if c, ok := mod.(io.Closer); ok {
			r.closers = append([]io.Closer{c}, r.closers...)
		}
		adopt(mod)
		return mod, nil
	}
	if _, err := block("target.queue", "remote_queue", "target &"+r.nowhere.name, "hostname relay.example.com", "location "+r.dir); err != nil {
		return nil, err
	}
	keys, err := block("table.sql_table", "keys", "driver sqlite3", "dsn "+filepath.Join(dir, "keys.db"), "table_name api_keys")
	if err != nil {
		return nil, err
	}
	if _, err := block("event_store", "events", "dsn "+filepath.Join(dir, "events.db"), "journal "+filepath.Join(dir, "journal")); err != nil {
		return nil, err
	}
	store := apikey.New(keys.(module.Table))
	if r.key, _, err = store.Create(context.Background(), "", apikey.Full, ""); err != nil {
		return nil, err
	}
	if r.key2, _, err = store.Create(context.Background(), "example.com", apikey.Sending, ""); err != nil {
		return nil, err
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(relayPassword), bcrypt.MinCost)
	if err != nil {
		return nil, err
	}
	if r.smtp, err = r.open(overSMTP, "hostname relay.example.com", "tls off", "insecure_auth yes",
		"auth pass_table static {\nentry "+sender+" \"bcrypt:"+string(hash)+"\"\n}", "deliver_to &remote_queue"+number); err != nil {
		return nil, err
	}
	r.http, err = r.open(overHTTP, "hostname relay.example.com", "deliver_to &remote_queue"+number, "keys &keys"+number,
		"store &events"+number, "rate_limit 1000000", "max_requests 512")
	return r, err
}

// open starts an endpoint on a free port.
func (r *relay) open(name string, lines ...string) (address string, err error) {
	nodes, err := parser.Read(strings.NewReader(name+" {\n"+strings.Join(lines, "\n")+"\n}\n"), "maddy.conf")
	if err != nil {
		return "", err
	}
	mod, err := module.GetEndpoint(name)(name, []string{"tcp://127.0.0.1:0"})
	if err != nil {
		return "", err
	}
	if err := mod.Init(config.NewMap(map[string]interface{}{"state_dir": theWorld.dir}, nodes[0])); err != nil {
		return "", err
	}
	r.closers = append([]io.Closer{mod.(io.Closer)}, r.closers...)
	return field(mod, "listeners").Interface().([]net.Listener)[0].Addr().String(), nil
}

// queued is how many messages the queue holds on disk.
func (r *relay) queued() (n int64, err error) {
	all, err := os.ReadDir(r.dir)
	for _, e := range all {
		if strings.HasSuffix(e.Name(), ".meta") {
			n++
		}
	}
	return n, err
}

// close ends the endpoints, then what they used, and removes the queue.
func (r *relay) close() error {
	close(r.nowhere.opened)
	var errs []error
	for _, c := range r.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(filepath.Dir(r.dir)))...)
}

// door is a client of one of the two endpoints.
type door struct {
	relay *relay
	name  string
	letter
}

// worker implements client.
func (d *door) worker() (worker, error) {
	if d.name == overSMTP {
		return newSubmitter(d.relay.smtp, d.message)
	}
	return newPoster(d.relay.http, d.request(d.relay.key2))
}

// close implements client.
func (d *door) close() error { return d.relay.close() }

// BenchmarkAccept hands messages over HTTP and by submission, into one kind of
// queue, over connections that stay open.
func BenchmarkAccept(b *testing.B) {
	for _, l := range letters() {
		for _, at := range []int{1, 16, 64} {
			for _, name := range []string{overSMTP, overHTTP} {
				b.Run(l.key+"/at="+strconv.Itoa(at)+"/"+name, func(b *testing.B) {
					m, err := measureDoor(b, name, l, at)
					if err != nil {
						b.Fatal(err)
					}
					m.report(b)
					doors.note(l.name+", "+strconv.Itoa(at)+" at a time", name, m)
				})
			}
		}
	}
}

func measureDoor(b *testing.B, name string, l letter, at int) (m measurement, err error) {
	r, err := newRelay()
	if err != nil {
		return m, err
	}
	d := &door{relay: r, name: name, letter: l}
	defer d.close()
	workers, err := newCrew(d, at)
	if err != nil {
		return m, err
	}
	defer workers.hangUp()
	if _, err := workers.deliver(make([]destination, at)); err != nil {
		return m, err
	}
	watch, err := startWatch(b)
	if err != nil {
		return m, err
	}
	took, err := workers.deliver(make([]destination, b.N))
	if err != nil {
		return m, err
	}
	if m, err = watch.stop(took); err != nil {
		return m, err
	}
	if n, err := r.queued(); err != nil || n != int64(at+b.N) {
		return m, errors.Join(err, errors.New("there are "+strconv.FormatInt(n, 10)+" messages on disk, want "+strconv.Itoa(at+b.N)))
	}
	return m, nil
}
