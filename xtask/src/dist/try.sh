# Installs an unpacked archive ($1) into the home folder, and runs a consortium with it.
"$1"/install.sh
PATH=$HOME/.local/bin:$PATH
asyndgan --version
asyndgan reproduce table2 --profile smoke --set data.phantoms_per_site=4 --arms RealAll,AsynDgan --out run
asyndgan keys init --server localhost
asyndgan keys issue north
asyndgan keys issue south
asyndgan init server --profile smoke --out server.toml
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
sed -i -e "s/0\.0\.0\.0:7443/127.0.0.1:$port/" -e 's/127\.0\.0\.1:7480/127.0.0.1:0/' -e 's|"run"|"consortium"|' server.toml
for site in north south; do
    number=1
    [ $site = south ] && number=2
    asyndgan init site --out $site.toml --server localhost:$port --bundle keys/sites/$site.pem \
        --data run/prepared/site-$number --folder $site
done
timeout 120 asyndgan server --config server.toml &
server=$!
timeout 120 asyndgan site --config north.toml &
north=$!
timeout 120 asyndgan site --config south.toml &
south=$!
wait $server
wait $north
wait $south
test -f consortium/seed-0/AsynDgan/generator.safetensors
asyndgan journal verify north/journal.jsonl
