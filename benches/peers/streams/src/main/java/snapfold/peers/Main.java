package snapfold.peers;

import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * {@code BROKERS TOPIC EVENTS GUARANTEE APPLICATION FOLDER}: aggregates a topic of that many events into a RocksDB
 * store with a changelog, and closes, which flushes and commits, once all of them are folded. Prints when that was, in
 * milliseconds since 1970.
 */
final class Main {
  private Main() {}

  public static void main(String[] args) throws InterruptedException {
    if (args.length != 6) {
      System.err.println("arguments: BROKERS TOPIC EVENTS GUARANTEE APPLICATION FOLDER");
      System.exit(2);
    }
    long events = Long.parseLong(args[2]);
    var folded = new LongAdder();
    var failure = new AtomicReference<Throwable>();
    var streams = new KafkaStreams(topology(args[1], folded), settings(args[0], args[3], args[4], args[5]));
    streams.setUncaughtExceptionHandler(
        thrown -> {
          failure.set(thrown);
          return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
    while (folded.sum() < events && failure.get() == null) {
      Thread.sleep(20);
    }
    if (failure.get() != null) {
      failure.get().printStackTrace();
      System.exit(1);
    }
    System.out.println(System.currentTimeMillis());
    if (!streams.close(Duration.ofMinutes(2))) {
      System.err.println("the application did not close within two minutes");
      System.exit(1);
    }
  }

  static Topology topology(String topic, LongAdder folded) {
    var builder = new StreamsBuilder();
    var fold = new Fold();
    builder.stream(topic, Consumed.with(Serdes.String(), Serdes.ByteArray()))
        .groupByKey()
        .aggregate(
            Fold::init,
            (key, event, state) -> {
              folded.increment();
              return fold.step(event, state);
            },
            Materialized.<String, byte[], KeyValueStore<Bytes, byte[]>>as("states")
                .withKeySerde(Serdes.String())
                .withValueSerde(Serdes.ByteArray()));
    return builder.build();
  }

  /** Defaults, but for the guarantee, two threads and 64 MB of cache. */
  static Properties settings(String brokers, String guarantee, String application, String folder) {
    var settings = new Properties();
    settings.putAll(
        Map.of(
            StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, brokers,
            StreamsConfig.APPLICATION_ID_CONFIG, application,
            StreamsConfig.PROCESSING_GUARANTEE_CONFIG, guarantee,
            StreamsConfig.STATE_DIR_CONFIG, folder,
            StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2,
            StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64L << 20,
            StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest"));
    return settings;
  }
}
