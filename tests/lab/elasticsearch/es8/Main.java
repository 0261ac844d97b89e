// A one-node Elasticsearch 8 out of the jars on Maven Central. Arguments: its home folder, the HTTP port (0: a free one), and the jars of its module
// for the wire, which are not on the class path: 8 takes it from a folder of modules only.
// It listens on loopback only and writes its address to HOME/logs/http.ports.
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.elasticsearch.Version;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;

public class Main {
    public static void main(String[] args) throws Exception {
        Path home = Path.of(args[0]);
        Files.createDirectories(home.resolve("logs"));
        LogConfigurator.configureESLogging();
        Files.createDirectories(home.resolve("plugins"));
        Path module = Files.createDirectories(home.resolve("modules").resolve("transport-netty4"));
        for (String jar : args[2].split(":")) {
            Files.createSymbolicLink(module.resolve(Path.of(jar).getFileName()), Path.of(jar));
        }
        Files.writeString(module.resolve("plugin-descriptor.properties"), String.join("\n",
            "name=transport-netty4",
            "description=the wire",
            "version=" + Version.CURRENT,
            "elasticsearch.version=" + Version.CURRENT,
            "java.version=17",
            "classname=org.elasticsearch.transport.netty4.Netty4Plugin",
            ""));
        Settings settings = Settings.builder()
            .put("path.home", args[0])
            .put("http.port", args[1])
            .put("transport.port", 0)
            .put("discovery.type", "single-node")
            .put("cluster.routing.allocation.disk.threshold_enabled", false)
            .put("node.portsfile", true)
            .build();
        new Node(InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), home.resolve("config"), () -> "lab")).start();
        Thread.currentThread().join();
    }
}
