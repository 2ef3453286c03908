package remotetls

import (
	"log/slog"
	"strings"
	"sync"

	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mtasts"
	"tlscontrol/internal/route"
)

// policyCaches are the caches of MTA-STS policies that are open. Targets whose
// blocks say the same share one: they would get in each other's way in its
// directory, and fetch everything twice.
var policyCaches struct {
	mu   sync.Mutex
	open map[policyCacheKey]*policyCache
}

// policyCacheKey is what makes caches different.
type policyCacheKey struct {
	dir, roots, resolvers string
	port                  int
	allowPrivate          bool
}

// policyCache is a cache with a resolver of its own, since the targets that share
// it end one by one.
type policyCache struct {
	*mtasts.Cache
	resolver *route.Resolver
	key      policyCacheKey
	users    int // under policyCaches.mu
}

// openPolicies makes what looks up MTA-STS policies: nil if the block is not
// there.
func openPolicies(b *mtastsBlock, resolvers []string, log *slog.Logger) (delivery.STS, error) {
	if b == nil {
		return nil, nil
	}
	key := policyCacheKey{
		dir: b.dir, roots: strings.Join(b.rootFiles, "\n"), resolvers: strings.Join(resolvers, " "),
		port: b.port, allowPrivate: b.allowPrivate,
	}
	policyCaches.mu.Lock()
	defer policyCaches.mu.Unlock()
	c := policyCaches.open[key]
	if c == nil {
		resolver := route.NewResolver(resolvers)
		cache, err := mtasts.New(mtasts.Config{
			Resolver: resolver, Roots: b.roots, Port: b.port, Dir: b.dir, AllowPrivate: b.allowPrivate, Log: log,
			// The directory belongs to the server, not to an administration command.
			ReadOnly: module.NoRun,
		})
		if err != nil {
			resolver.Close()
			return nil, err
		}
		c = &policyCache{Cache: cache, resolver: resolver, key: key}
		if policyCaches.open == nil {
			policyCaches.open = make(map[policyCacheKey]*policyCache)
		}
		policyCaches.open[key] = c
	}
	c.users++
	return &policyUser{policyCache: c}, nil
}

// policyUser is one target's hold on a cache.
type policyUser struct {
	*policyCache
	once sync.Once
}

// Close implements delivery.STS. The cache ends with the last target that has it.
func (u *policyUser) Close() { u.once.Do(u.leave) }

func (c *policyCache) leave() {
	policyCaches.mu.Lock()
	c.users--
	last := c.users == 0
	if last {
		delete(policyCaches.open, c.key)
	}
	policyCaches.mu.Unlock()
	if last {
		c.Cache.Close()
		c.resolver.Close()
	}
}
