# shellcheck shell=bash
# Apache Cassandra, one node: what speaks CQL like ScyllaDB. Its address is host:port of the native protocol.
# It asks for a password (user `cassandra`, password `cassandra`).
cassandra_version=5.0.6

cassandra_install() {
  java17
  maven cassandra "org.apache.cassandra:cassandra-all:$cassandra_version"
}

cassandra_flags() {
  local at
  for at in java.base/{jdk.internal.misc,jdk.internal.ref,sun.nio.ch,java.lang.ref} \
    java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/{sun.rmi.registry,sun.rmi.server} \
    java.sql/java.sql jdk.unsupported/sun.misc; do
    echo "--add-exports=$at=ALL-UNNAMED"
  done
  for at in java.base/{java.lang.module,jdk.internal.loader,jdk.internal.ref,jdk.internal.reflect} \
    java.base/{jdk.internal.math,jdk.internal.module,jdk.internal.util.jar,sun.nio.ch,java.io,java.lang} \
    java.base/{java.lang.reflect,java.util,java.util.concurrent,java.util.concurrent.atomic,java.nio} \
    jdk.management/com.sun.management.internal java.rmi/sun.rmi.transport.tcp; do
    echo "--add-opens=$at=ALL-UNNAMED"
  done
}

cassandra_start() {
  local dir=$servers/cassandra flags
  if [[ ! -e $dir/conf/cassandra.yaml ]]; then
    mkdir -p "$dir/conf" "$dir/data"
    local native storage jmx
    read -r native storage jmx <<<"$(free_ports 3)"
    cat >"$dir/conf/cassandra.yaml" <<Y
cluster_name: snapfold-tests
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
authenticator: PasswordAuthenticator
authorizer: CassandraAuthorizer
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: "127.0.0.1:$storage"
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
storage_port: $storage
native_transport_port: $native
# What was acknowledged survives a kill, as it does in a cluster of several nodes.
commitlog_sync: group
commitlog_sync_group_window: 5ms
data_file_directories: ["$dir/data/data"]
commitlog_directory: $dir/data/commitlog
saved_caches_directory: $dir/data/saved_caches
hints_directory: $dir/data/hints
cdc_raw_directory: $dir/data/cdc_raw
auto_snapshot: false
Y
    cat >"$dir/conf/logback.xml" <<'X'
<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender"><encoder><pattern>%-5level %date %msg%n</pattern></encoder></appender>
  <root level="WARN"><appender-ref ref="OUT"/></root>
</configuration>
X
    echo "$jmx" >"$dir/jmx"
    echo "127.0.0.1:$native" >"$dir/address"
  fi
  mapfile -t flags < <(cassandra_flags)
  launch cassandra java -Xmx1g -XX:+UseSerialGC "${flags[@]}" -Dcassandra.config="file://$dir/conf/cassandra.yaml" \
    -Dcassandra.storagedir="$dir/data" -Dcassandra-foreground=yes -Dcassandra.jmx.local.port="$(cat "$dir/jmx")" \
    -Dcassandra.ring_delay_ms=100 -Dcassandra.skip_wait_for_gossip_to_settle=0 \
    -Dcassandra.superuser_setup_delay_ms=0 -Djdk.attach.allowAttachSelf=true \
    -cp "$dir/conf:$installed/cassandra/libs/*" org.apache.cassandra.service.CassandraDaemon
  await cassandra 120 cassandra_answers
}

cassandra_answers() { # an OPTIONS request of the native protocol is answered before anybody has to log in
  python3 - "$(cat "$servers/cassandra/address")" <<'PY'
import socket, sys
host, port = sys.argv[1].split(":")
with socket.create_connection((host, int(port)), 2) as s:
    s.sendall(bytes([4, 0, 0, 0, 5, 0, 0, 0, 0]))
    sys.exit(0 if s.recv(9)[4:5] == b"\x06" else 1)
PY
}
