package mgmt

import (
	"net/http"

	"github.com/warrenmq/warren/internal/core/exchange"
)

// addRoutes is every path there is, relative to /api. Of two that fit, the first
// one counts.
func (a *API) addRoutes() {
	type r = *request
	post := func(path string, h func(r) error) {
		a.add(path, manage, map[string]func(*request) error{http.MethodPost: h})
	}
	a.get("overview", manage, r.overview)
	a.get("whoami", manage, r.whoami)
	a.get("cluster-name", manage, r.clusterName)
	a.get("version", anybody, r.version)
	a.get("extensions", manage, r.extensions)
	a.get("nodes", monitor, r.listNodes)
	a.get("nodes/*", monitor, r.getNode)

	a.get("vhosts", manage, r.listVHosts)
	a.get("vhosts/*", administer, r.getVHost)
	a.get("vhosts/*/connections", manage, r.listVHostConnections)
	a.get("vhosts/*/channels", manage, r.listVHostChannels)
	a.get("vhosts/*/permissions", administer, r.vhostPermissions)
	a.get("vhosts/*/topic-permissions", administer, r.emptyVHostList)

	a.get("connections", manage, r.listConnections)
	a.add("connections/*", manage, map[string]func(*request) error{
		http.MethodGet: r.getConnection, http.MethodDelete: r.closeConnection})
	a.get("connections/username/*", manage, r.listUserConnections)
	a.get("connections/*/channels", manage, r.listConnectionChannels)
	a.get("channels", manage, r.listChannels)
	a.get("channels/*", manage, r.getChannel)
	a.get("consumers", manage, r.listConsumers)
	a.get("consumers/*", manage, r.listVHostConsumers)

	a.get("exchanges", manage, r.listExchanges)
	a.get("exchanges/*", manage, r.listVHostExchanges)
	a.add("exchanges/*/*", manage, map[string]func(*request) error{
		http.MethodGet: r.getExchange, http.MethodPut: r.putExchange, http.MethodDelete: r.deleteExchange})
	a.get("exchanges/*/*/bindings/source", manage, r.exchangeSource)
	a.get("exchanges/*/*/bindings/destination", manage, r.exchangeDestination)
	post("exchanges/*/*/publish", r.publishMessage)

	a.get("queues", manage, r.listQueues)
	a.get("queues/detailed", manage, r.listQueuesDetailed)
	a.get("queues/*", manage, r.listVHostQueues)
	a.add("queues/*/*", manage, map[string]func(*request) error{
		http.MethodGet: r.getQueue, http.MethodPut: r.putQueue, http.MethodDelete: r.deleteQueue})
	a.get("queues/*/*/bindings", manage, r.queueBindings)
	a.add("queues/*/*/contents", manage, map[string]func(*request) error{http.MethodDelete: r.purge})
	post("queues/*/*/get", r.getMessages)

	a.get("bindings", manage, r.listBindings)
	a.get("bindings/*", manage, r.listVHostBindings)
	for end, kind := range map[string]exchange.DestKind{"q": exchange.Queue, "e": exchange.Exchange} {
		a.add("bindings/*/e/*/"+end+"/*", manage, map[string]func(*request) error{
			http.MethodGet: pairBindings(kind), http.MethodPost: postBinding(kind)})
		a.add("bindings/*/e/*/"+end+"/*/*", manage, map[string]func(*request) error{
			http.MethodGet: oneBinding(kind), http.MethodDelete: deleteBinding(kind)})
	}

	a.addSettingRoutes()
	a.addHealthRoutes()
}

// addSettingRoutes is who may do what, and what this broker does not have.
func (a *API) addSettingRoutes() {
	type r = *request
	a.get("users", administer, r.listUsers)
	a.get("users/without-permissions", administer, r.usersWithoutPermissions)
	a.get("users/*", administer, r.getUser)
	a.get("users/*/permissions", administer, r.userPermissions)
	a.get("users/*/topic-permissions", administer, r.emptyList)
	a.get("permissions", administer, r.listPermissions)
	a.get("permissions/*/*", administer, r.getPermission)
	a.get("topic-permissions", administer, r.emptyList)
	a.get("definitions", administer, r.definitions)
	a.get("definitions/*", administer, r.vhostDefinitions)

	for _, kind := range []string{"policies", "operator-policies"} {
		a.get(kind, manage, r.emptyList)
		a.get(kind+"/*", manage, r.emptyVHostList)
		a.get(kind+"/*/*", manage, r.nothingThere)
	}
	a.get("parameters", policies, r.emptyList)
	a.get("parameters/*", policies, r.emptyList)
	a.get("global-parameters", policies, r.globalParameters)
	a.get("vhost-limits", manage, r.emptyList)
	a.get("vhost-limits/*", manage, r.emptyVHostList)
	a.get("user-limits", manage, r.emptyList)
	a.get("feature-flags", manage, r.emptyList)
	a.get("deprecated-features", manage, r.emptyList)
	a.get("deprecated-features/used", manage, r.emptyList)
}

func (a *API) addHealthRoutes() {
	type r = *request
	for _, name := range []string{"alarms", "local-alarms"} {
		a.get("health/checks/"+name, manage, r.alarms)
	}
	a.get("health/checks/is-in-service", manage, r.inService)
	a.get("health/checks/ready-to-serve-clients", manage, r.inService)
	a.get("health/checks/virtual-hosts", manage, r.inService)
	a.get("health/checks/node-is-quorum-critical", manage, r.quorumCritical)
	a.get("health/checks/reached-target-cluster-size", manage, r.healthy)
	a.get("health/checks/below-node-connection-limit", manage, r.connectionLimit)
	a.get("health/checks/metadata-store/initialized", manage, r.healthy)
	a.get("health/checks/metadata-store/initialized/with-data", manage, r.healthy)
	a.get("health/checks/port-listener/*", manage, r.portListener)
	a.get("health/checks/protocol-listener/*", manage, r.protocolListener)
	a.get("healthchecks/node", manage, r.inService)
	a.get("healthchecks/node/*", manage, r.inService)
	a.get("aliveness-test/*", manage, r.alive)
}
