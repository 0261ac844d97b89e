// A one-node OpenSearch 2 out of the jars on Maven Central. Arguments: its home folder, the HTTP port (0: a free one).
// It listens on loopback only and writes its address to HOME/logs/http.ports.
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.opensearch.common.settings.Settings;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.transport.Netty4Plugin;

public class Main {
    public static void main(String[] args) throws Exception {
        Path home = Path.of(args[0]);
        Files.createDirectories(home.resolve("logs"));
        Settings settings = Settings.builder()
            .put("path.home", args[0])
            .put("http.port", args[1])
            .put("transport.port", 0)
            .put("discovery.type", "single-node")
            .put("cluster.routing.allocation.disk.threshold_enabled", false)
            .put("node.portsfile", true)
            .build();
        new Node(
            InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), home.resolve("config"), () -> "lab"),
            List.of(Netty4Plugin.class),
            true) {}.start();
        Thread.currentThread().join();
    }
}
