import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocketFactory;
import javax.net.ssl.TrustManagerFactory;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.RedisClusterClient;
import redis.clients.jedis.exceptions.JedisException;

/** Counts in Redis until its input is closed. What it prints: see ../README.md. */
public class Counter {
    public static void main(String[] arguments) throws Exception {
        var stop = new CountDownLatch(1);
        var listener = new Thread(() -> {
            try {
                System.in.readAllBytes();
            } catch (IOException error) {
                error.printStackTrace();
            }
            stop.countDown();
        });
        listener.setDaemon(true);
        listener.start();
        // 2 s is Jedis's own, for an answer as for a connection.
        int timeout = arguments.length > 0 ? 1000 * Integer.parseInt(arguments[0]) : 2000;
        boolean same;
        try (var client = connect(System.getenv(), timeout)) {
            same = count(client, stop);
        }
        System.exit(same ? 0 : 1);
    }

    private static RedisClusterClient connect(Map<String, String> env, int timeout) throws Exception {
        var tls = new SSLParameters();
        tls.setEndpointIdentificationAlgorithm("HTTPS"); // check the host's name too
        return RedisClusterClient.builder()
                .nodes(Stream.of(env.get("CACHESIM_REDIS_NODES").split(","))
                        .map(HostAndPort::from)
                        .collect(Collectors.toSet()))
                .clientConfig(DefaultJedisClientConfig.builder()
                        .user(env.get("CACHESIM_REDIS_USERNAME"))
                        .password(Files.readString(Path.of(env.get("CACHESIM_REDIS_PASSWORD_FILE"))))
                        .ssl(true)
                        .sslSocketFactory(trusting(Path.of(env.get("CACHESIM_CA_FILE"))))
                        .sslParameters(tls)
                        .timeoutMillis(timeout)
                        .build())
                .build();
    }

    private static SSLSocketFactory trusting(Path ca) throws IOException, GeneralSecurityException {
        var trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null, null);
        try (InputStream pem = Files.newInputStream(ca)) {
            trusted.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        var managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        managers.init(trusted);
        var context = SSLContext.getInstance("TLS");
        context.init(null, managers.getTrustManagers(), null);
        return context.getSocketFactory();
    }

    private static boolean count(RedisClusterClient client, CountDownLatch stop) throws InterruptedException {
        client.ping();
        System.out.println("ready");
        long n = 0;
        boolean failed = false;
        long accepted = System.nanoTime();
        while (!stop.await(20, TimeUnit.MILLISECONDS)) {
            try {
                client.set("counter", Long.toString(n + 1));
                n += 1;
                long gap = (System.nanoTime() - accepted) / 1_000_000;
                if (failed || gap > 300) {
                    System.out.println("recovered " + gap);
                }
                failed = false;
                accepted = System.nanoTime();
            } catch (JedisException error) {
                if (!failed) {
                    System.out.println("failed " + error);
                }
                failed = true;
            }
        }
        String found = client.get("counter");
        boolean same = Long.toString(n).equals(found);
        System.out.println(same ? "done " + n : "lost " + n + ", found " + found);
        return same;
    }
}
