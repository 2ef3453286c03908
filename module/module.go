// Package module registers every module of tlscontrol in maddy. A build of
// maddy that blank-imports it knows target.remote_tls, tls_policy,
// check.tls_override, delivery_log, event_store and http_api.
package module

import (
	_ "tlscontrol/check/tlsoverride"  // check.tls_override
	_ "tlscontrol/module/deliverylog" // delivery_log
	_ "tlscontrol/module/eventstore"  // event_store
	_ "tlscontrol/module/httpapi"     // http_api
	_ "tlscontrol/module/tlspolicy"   // tls_policy
	_ "tlscontrol/target/remotetls"   // target.remote_tls
)
