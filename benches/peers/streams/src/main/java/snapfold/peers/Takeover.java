package snapfold.peers;

import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.InvalidStateStoreException;
import org.apache.kafka.streams.state.QueryableStoreTypes;

/**
 * {@code BROKERS TOPIC APPLICATION FOLDER STANDBYS SESSION_MS AGGREGATES STEP}: one of several instances of the aggregate
 * of {@link Main}, until it is killed. Prints {@code UNIX_MS PRESENT EVENTS} whenever it answers for another number of
 * every STEP-th aggregate, and each second: 0 while it answers for none, because tasks move or are restored.
 */
final class Takeover {
  private Takeover() {}

  public static void main(String[] args) throws InterruptedException {
    if (args.length != 8) {
      System.err.println("arguments: BROKERS TOPIC APPLICATION FOLDER STANDBYS SESSION_MS AGGREGATES STEP");
      System.exit(2);
    }
    int aggregates = Integer.parseInt(args[6]);
    int step = Integer.parseInt(args[7]);
    var settings = Main.settings(args[0], StreamsConfig.AT_LEAST_ONCE, args[2], args[3]);
    settings.put(StreamsConfig.NUM_STANDBY_REPLICAS_CONFIG, args[4]);
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG), args[5]);
    var folded = new LongAdder();
    var streams = new KafkaStreams(Main.topology(args[1], folded), settings);
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
    int told = -1;
    long toldAt = 0;
    while (true) {
      int present = present(streams, aggregates, step);
      long now = System.currentTimeMillis();
      if (present != told || now - toldAt >= 1_000) {
        System.out.println(now + " " + present + " " + folded.sum());
        System.out.flush();
        told = present;
        toldAt = now;
      }
      Thread.sleep(50);
    }
  }

  private static int present(KafkaStreams streams, int aggregates, int step) {
    try {
      var store =
          streams.store(
              StoreQueryParameters.fromNameAndType("states", QueryableStoreTypes.<String, byte[]>keyValueStore()));
      int present = 0;
      for (int aggregate = 0; aggregate < aggregates; aggregate += step) {
        if (store.get("order-%08d".formatted(aggregate)) != null) {
          present++;
        }
      }
      return present;
    } catch (InvalidStateStoreException e) {
      return 0;
    }
  }
}
