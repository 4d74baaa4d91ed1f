import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.ServiceProvider;
import org.apache.curator.x.discovery.strategies.RoundRobinStrategy;

/** Service discovery. */
final class Discovery {
    private Discovery() {
    }

    static void all() {
        Suite.run("service discovery registers, finds, updates, and forgets who has gone", Discovery::discovery);
    }

    private static ServiceDiscovery<String> discovery(CuratorFramework client) throws Exception {
        ServiceDiscovery<String> discovery =
            Suite.open(ServiceDiscoveryBuilder.builder(String.class).client(client).basePath("/services").build());
        discovery.start();
        return discovery;
    }

    private static ServiceInstance<String> instance(String id, int port, String payload) throws Exception {
        return ServiceInstance.<String>builder().name("shop").id(id).address("127.0.0.1").port(port).payload(payload).build();
    }

    private static Set<String> payloads(Iterable<ServiceInstance<String>> instances) {
        Set<String> payloads = new HashSet<>();
        instances.forEach(instance -> payloads.add(instance.getPayload()));
        return payloads;
    }

    private static void discovery() throws Exception {
        List<CuratorFramework> clients = Suite.clients(3);
        ServiceDiscovery<String> first = discovery(clients.get(0));
        ServiceDiscovery<String> second = discovery(clients.get(1));
        ServiceDiscovery<String> asking = discovery(clients.get(2));
        first.registerService(instance("a", 1, "one"));
        first.registerService(instance("b", 2, "two"));
        second.registerService(instance("c", 3, "three"));

        ServiceCache<String> cache = Suite.open(asking.serviceCacheBuilder().name("shop").build());
        cache.start();
        Suite.same(Set.of("one", "two", "three"), payloads(cache.getInstances()), "in the cache");
        Suite.same(Set.of("shop"), new HashSet<>(asking.queryForNames()), "names");
        Suite.same(3, asking.queryForInstance("shop", "c").getPort(), "port of c");
        ServiceProvider<String> provider = Suite.open(
            asking.serviceProviderBuilder().serviceName("shop").providerStrategy(new RoundRobinStrategy<>()).build());
        provider.start();
        Suite.eventually("the provider knows three", () -> provider.getAllInstances().size() == 3);
        Suite.same(3,
            List.of(provider.getInstance(), provider.getInstance(), provider.getInstance()).stream()
                .map(ServiceInstance::getId).collect(Collectors.toSet()).size(), "given in turn");

        second.updateService(instance("c", 3, "three and more"));
        Suite.eventually("the update", () -> payloads(cache.getInstances()).contains("three and more"));
        clients.get(0).close();
        Suite.eventually("only one is left", () -> payloads(cache.getInstances()).equals(Set.of("three and more")));
        second.unregisterService(instance("c", 3, "three and more"));
        Suite.eventually("none is left", () -> cache.getInstances().isEmpty());
        Suite.that(provider.getInstance() == null, "the provider gives one");
    }
}
