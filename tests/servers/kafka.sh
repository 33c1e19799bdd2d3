# shellcheck shell=bash
# Apache Kafka, one node of KRaft. Two addresses, separated by a blank: plain, and SASL over TLS (SCRAM-SHA-256, user
# `snapfold`, password `secret`, certificate of its authority in kafka/tls/ca.pem).
kafka_version=4.3.1

kafka_install() {
  java17
  maven kafka "org.apache.kafka:kafka_2.13:$kafka_version" "org.apache.kafka:kafka-tools:$kafka_version" \
    org.slf4j:slf4j-simple:1.7.36
}

kafka_tls() { # a key store for the broker, signed by an authority of its own
  local tls=$1
  need openssl 'install openssl'
  need keytool 'install a Java 17 development kit'
  mkdir -p "$tls"
  openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=snapfold-tests -keyout "$tls/ca.key" -out "$tls/ca.pem"
  openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout "$tls/broker.key" -out "$tls/broker.csr"
  openssl x509 -req -in "$tls/broker.csr" -CA "$tls/ca.pem" -CAkey "$tls/ca.key" -CAcreateserial -days 30 \
    -extfile <(echo 'subjectAltName=DNS:localhost,IP:127.0.0.1') -out "$tls/broker.pem"
  cat "$tls/broker.key" "$tls/broker.pem" >"$tls/broker-chain.pem"
  openssl pkcs12 -export -in "$tls/broker.pem" -inkey "$tls/broker.key" -certfile "$tls/ca.pem" -passout pass:secret \
    -out "$tls/broker.p12"
}

kafka_start() {
  local dir=$servers/kafka
  if [[ ! -e $dir/address ]]; then
    mkdir -p "$dir"
    kafka_tls "$dir/tls" 2>"$dir/tls.log" || die "openssl: $(cat "$dir/tls.log")"
    local plain secure controller
    read -r plain secure controller <<<"$(free_ports 3)"
    cat >"$dir/server.properties" <<P
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$plain,SASL_SSL://127.0.0.1:$secure,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$plain,SASL_SSL://127.0.0.1:$secure
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-256,PLAIN
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_snapfold="secret";
ssl.keystore.type=PKCS12
ssl.keystore.location=$dir/tls/broker.p12
ssl.keystore.password=secret
ssl.key.password=secret
log.dirs=$dir/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
# Events of tests carry old times; a broker that went by them would delete them within seconds.
log.retention.ms=-1
message.max.bytes=10485760
P
    java -Xmx256m -cp "$installed/kafka/libs/*" kafka.tools.StorageTool format --cluster-id="$(python3 -c \
      'import base64, os; print(base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("="))')" \
      -c "$dir/server.properties" --add-scram 'SCRAM-SHA-256=[name=snapfold,password=secret]' >"$dir/format.log" 2>&1 || die "format: $(cat "$dir/format.log")"
    echo "127.0.0.1:$plain 127.0.0.1:$secure" >"$dir/address"
  fi
  # Buffers outside the heap are kept for each thread otherwise: eight records of 100 MB, and the broker stands still.
  launch kafka java -Xmx768m -XX:+UseSerialGC -Djdk.nio.maxCachedBufferSize=1048576 \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$installed/kafka/libs/*" kafka.Kafka "$dir/server.properties"
  await kafka 60 kafka_answers
}

kafka_answers() { # the port takes connections; clients retry until the broker has its metadata
  local address
  read -r address _ <"$servers/kafka/address"
  (exec 3<>"/dev/tcp/${address%:*}/${address#*:}")
}
