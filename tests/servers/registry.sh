# shellcheck shell=bash
# Apicurio Registry, compatible with Confluent's. Its address is the base URL for clients.
registry_version=3.0.9

registry_install() {
  [[ -e $installed/registry/done ]] && return
  java17
  need mvn 'install Maven 3.8 or later'
  rm -rf "${installed:?}/registry"
  mkdir -p "$installed/registry"
  mvn -B -q dependency:copy -Dartifact="io.apicurio:apicurio-registry-app:$registry_version:tar.gz:all" \
    -DoutputDirectory="$installed/registry"
  tar -xzf "$installed/registry"/*.tar.gz -C "$installed/registry"
  rm "$installed/registry"/*.tar.gz
  touch "$installed/registry/done"
}

registry_start() {
  local dir=$servers/registry port
  if [[ ! -e $dir/port ]]; then
    mkdir -p "$dir"
    free_ports 1 >"$dir/port"
    echo "http://127.0.0.1:$(cat "$dir/port")/apis/ccompat/v7" >"$dir/address"
  fi
  port=$(cat "$dir/port")
  launch registry java -Xmx256m -XX:+UseSerialGC -Dquarkus.http.host=127.0.0.1 -Dquarkus.http.port="$port" \
    -cp "$installed/registry/*:$installed/registry/lib/*" io.quarkus.runner.GeneratedMain
  await registry 60 curl -sf -o /dev/null "$(cat "$dir/address")/subjects"
}
